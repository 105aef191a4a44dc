"""The measured model with 8-bit weights, as `calibrate` quantizes for a CPU by default. This form needs no data."""

from __future__ import annotations

from pathlib import Path

from unimoe_calibration.schemes import Engine, LinearPlan, QuantizationPlan, Scheme
from unimoe_calibration.statistics import linears
from unimoe_calibration.writing import write_quantized
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.reader import open_bundle

from .workload import model_config, write_checkpoint


def write_int8(bundle_dir: Path, out: Path, scheme: Scheme = Scheme.W8) -> None:
    """Write a float32 bundle with weights in 8 bits, or in the 4 bits of Scheme.W4, for ONNX Runtime."""
    bundle = open_bundle(bundle_dir)
    plans = dict.fromkeys(linears(bundle.model), LinearPlan(scheme=scheme))
    write_quantized(bundle, out, QuantizationPlan(engine=Engine.ONNXRUNTIME, linears=plans), {})


def write_measured(folder: Path, hidden: int) -> None:
    """Write the measured model as `folder`/checkpoint, its float32 `folder`/bundle and its 8-bit `folder`/int8."""
    write_checkpoint(folder / "checkpoint", model_config(hidden))
    export_bundle(folder / "checkpoint", folder / "bundle")
    write_int8(folder / "bundle", folder / "int8")
