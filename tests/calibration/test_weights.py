"""Codes of weights: arbitrary ones have the form of real ones."""

from __future__ import annotations

import numpy as np
import pytest

from unimoe_calibration.schemes import Engine, Scheme
from unimoe_calibration.weights import arbitrary_weight, quantize_weight


@pytest.mark.parametrize("scheme", [Scheme.W8A8, Scheme.W8, Scheme.W4])
@pytest.mark.parametrize("num_columns", [8, 100])
def test_arbitrary_codes_have_the_form_of_real_ones(scheme: Scheme, num_columns: int) -> None:
    weight_KN = np.random.default_rng(0).standard_normal((128, num_columns), dtype=np.float32)
    real = quantize_weight(weight_KN, scheme, Engine.ONNXRUNTIME)
    arbitrary = arbitrary_weight(weight_KN, scheme, Engine.ONNXRUNTIME)
    assert (arbitrary.shape, arbitrary.block) == (real.shape, real.block)
    for one, other in ((arbitrary.codes, real.codes), (arbitrary.scales, real.scales)):
        assert (one.shape, one.dtype, one.onnx_type) == (other.shape, other.dtype, other.onnx_type)
        assert one.values.dtype == other.values.dtype and np.isin(one.values, other.values).all()
