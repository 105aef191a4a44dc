"""A probe (unimoe_export.probes) at another precision. Its ranges are arbitrary: no step's time depends on them."""

from __future__ import annotations

from pathlib import Path

from unimoe_runtime.bundle.reader import open_bundle

from .schemes import Engine, LinearPlan, QuantizationPlan, Scheme
from .statistics import linears
from .writing import write_quantized

SCHEMES = {"int8": Scheme.W8A8, "int8-weights": Scheme.W8, "int4": Scheme.W4}
"""The scheme of each precision that a plan knows by name."""

_INPUT_RANGE = 4.0


def quantize_probe(bundle: Path, out: Path, precision: str) -> Path:
    """Write `bundle` to `out` with every product in that precision, for ONNX Runtime."""
    opened, scheme = open_bundle(bundle), SCHEMES[precision]
    plan = LinearPlan(scheme=scheme, input_range=_INPUT_RANGE if scheme.quantizes_inputs else None)
    plans = {linear: plan for linear in linears(opened.model)}
    write_quantized(opened, out, QuantizationPlan(engine=Engine.ONNXRUNTIME, linears=plans), {})
    return out
