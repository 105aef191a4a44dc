"""GPTQ lowers the output error on inputs like those that it saw, and its bundle opens and computes with its codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.gptq import compensated, error_of, run
from benchmarks.workload import model_config, write_checkpoint
from unimoe_calibration.schemes import Engine, Scheme
from unimoe_calibration.weights import dequantize_weight
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import open_bundle


@pytest.mark.parametrize("num_inputs", [64, 96, 80])
def test_compensation_lowers_the_error_of_correlated_inputs(num_inputs: int) -> None:
    random = np.random.default_rng(num_inputs)
    mixing = random.standard_normal((8, num_inputs)).astype(np.float32)
    rows_MK, held_out_MK = (
        random.standard_normal((500, 8)).astype(np.float32) @ mixing
        + np.float32(0.1) * random.standard_normal((500, num_inputs)).astype(np.float32)
        for _ in range(2)
    )
    weight_KN = random.standard_normal((num_inputs, 24)).astype(np.float32)
    gram_KK = rows_MK.T.astype(np.float64) @ rows_MK
    codes_KN, scales_KN = compensated(weight_KN, gram_KK, 0.01)
    assert np.abs(codes_KN).max() <= 7 and np.array_equal(codes_KN, np.rint(codes_KN))
    rounded_KN = dequantize_weight(weight_KN, Scheme.W4, Engine.ONNXRUNTIME)
    rounding, compensation = (
        error_of(weight_KN, restored, held_out_MK) for restored in (rounded_KN, codes_KN * scales_KN)
    )
    assert compensation < 0.5 * rounding


@pytest.mark.slow
def test_bundle_computes_with_the_compensated_codes(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", model_config(128, num_layers=1))
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle")
    assert "| all |" in run(tmp_path / "bundle", tmp_path / "out", 0.1)
    bundles = [open_bundle(tmp_path / name) for name in ("bundle", "out")]
    for file in bundles[1].files:
        bundles[1].checked(file)
    hidden_NC = np.random.default_rng(0).standard_normal((2, 128)).astype(np.float32)
    exact, coded = (
        open_backend("onnxruntime", bundle).run("head", {"hidden_NC": hidden_NC})["logits_NKV"] for bundle in bundles
    )
    error = np.linalg.norm(coded - exact) / np.linalg.norm(exact)
    assert 0.01 < error < 0.2
