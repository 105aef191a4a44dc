"""The parts of a generation add up to its wall time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_export.exporter import export_bundle
from unimoe_tools.profiling.breakdown import DECODE_PARTS
from unimoe_tools.profiling.measure import Meter
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


def test_parts_add_up_to_the_wall_time(tiny: Path) -> None:
    meter = Meter(setting(tiny, threads=None, backend="numpy", every=1))
    meter.measure(ProfileRequest(task="random"))
    generation = meter.measure(ProfileRequest(task="random"))
    assert 0.9 < generation.coverage <= 1.0  # the benchmark has the bound for quiet machines
    assert generation.num_steps == 20 and generation.num_frames_U == (19,)
    assert generation.breakdown.decode_ms == pytest.approx(generation.breakdown.parts_SP[:, list(DECODE_PARTS)].sum())
