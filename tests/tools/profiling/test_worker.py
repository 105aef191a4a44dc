"""A measuring process that dies is reported in one line."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest

from tests.tools.profiling.settings import setting
from unimoe_runtime.errors import BackendError
from unimoe_tools.profiling.worker import Worker


def test_a_measuring_process_that_dies_is_told(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it ends, its folder of traces is deleted."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Worker(setting(tiny_bundle)) as worker:
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(BackendError, match="ended with code -9"):
            worker.repeat()
        assert list(tmp_path.iterdir())
    worker.close()
    assert list(tmp_path.iterdir()) == []
