"""The parts of a generation add up to its wall time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.profiling.settings import setting
from unimoe_tools.profiling.breakdown import DECODE_PARTS
from unimoe_tools.profiling.measure import Meter
from unimoe_tools.profiling.workload import ProfileRequest


def test_parts_add_up_to_the_wall_time(tiny_bundle: Path) -> None:
    meter = Meter(setting(tiny_bundle, threads=None, backend="numpy", every=1))
    meter.measure(ProfileRequest(task="random"))
    generation = meter.measure(ProfileRequest(task="random"))
    assert 0.9 < generation.coverage <= 1.0  # the benchmark has the bound for quiet machines
    assert generation.num_steps == 20 and generation.num_frames_U == (19,)
    assert generation.breakdown.decode_ms == pytest.approx(generation.breakdown.parts_SP[:, list(DECODE_PARTS)].sum())
