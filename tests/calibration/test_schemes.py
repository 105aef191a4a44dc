"""A plan without a range is refused."""

from __future__ import annotations

import pytest

from unimoe_calibration.schemes import LinearPlan, Scheme


def test_a_plan_without_a_range_is_refused() -> None:
    with pytest.raises(ValueError, match="input_range"):
        LinearPlan(scheme=Scheme.W8A8)
    with pytest.raises(ValueError, match="per_row"):
        LinearPlan(scheme=Scheme.FP8, per_row=True)
