"""A measuring process that dies is reported in one line."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_export.exporter import export_bundle
from unimoe_runtime.errors import BackendError
from unimoe_tools.profiling.worker import Worker
from unimoe_tools.profiling.workload import ProfileRequest, Setting


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a language model alone: no front end, no codec."""
    folder = tmp_path_factory.mktemp("profiling")
    export_bundle(write_random_checkpoint(folder / "checkpoint", tiny_config()), folder / "tiny")
    return folder / "tiny"


def setting(bundle: Path, **changes: object) -> Setting:
    fields: dict[str, object] = {"requests": (ProfileRequest(task="random"),), "steps": 20, "threads": 1}
    return Setting(bundle=str(bundle), **{**fields, **changes})  # type: ignore[arg-type]


def test_a_measuring_process_that_dies_is_told(tiny: Path) -> None:
    with Worker(setting(tiny)) as worker:
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(BackendError, match="ended with code -9"):
            worker.repeat()
    worker.close()
