"""The floor counts the bytes of the graphs that ran."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unimoe_runtime.bundle.reader import open_bundle
from unimoe_tools.profiling.floor import compare_with_floor, step_bytes, weight_bytes


def test_floor_counts_what_ran(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    launches_LR = np.zeros((2, 4))
    launches_LR[0, 1] = 0.5
    bytes_by_part, bytes_L = step_bytes(bundle, launches_a_step_LR=launches_LR, rows=2, cached=10)
    expert = weight_bytes(bundle, "layers.0.expert.1")
    assert expert == 4 * 3 * 16 * 12
    cache = 2 * 10 * 2 * 2 * 8 * 4
    trunks = [weight_bytes(bundle, f"layers.{layer}.trunk") + cache for layer in range(2)]
    assert bytes_by_part["expert"] == expert / 2
    assert bytes_by_part["trunk"] == sum(trunks)
    assert bytes_L.tolist() == [trunks[0] + expert / 2, trunks[1]]
    floor = compare_with_floor({"trunk": 2e6, "head": 1e6}, {"trunk": 3.0, "head": 1.5}, 5.0, 1e9)
    assert floor["floor_ms"] == 3.0 and floor["ratio"] == pytest.approx(5 / 3)
    assert [floor["parts"][name]["far"] for name in ("trunk", "head")] == [False, False]
    assert compare_with_floor({"trunk": 1e6}, {"trunk": 2.1}, 5.0, 1e9)["parts"]["trunk"]["far"]
