"""Statistics are gathered again where what they depend on is another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from unimoe_calibration.data import read_data
from unimoe_calibration.gathering import gather
from unimoe_calibration.settings import Settings
from unimoe_runtime.bundle.reader import Bundle


@pytest.mark.slow
def test_another_floor_or_seed_is_gathered_anew_another_method_is_not(bundle: Bundle, tmp_path: Path) -> None:
    data = read_data(None, bundle)
    for settings in (Settings(floor=1), Settings(floor=1, seed=1), Settings(floor=2)):
        assert gather(bundle, data, replace(settings, cache_dir=tmp_path)).num_cached == 0
    assert gather(bundle, data, Settings(floor=1, method="mse", cache_dir=tmp_path)).num_cached > 0
