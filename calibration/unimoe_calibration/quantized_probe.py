"""A probe (unimoe_export.probes) at another precision.

Its ranges and codes are arbitrary, because no step's time depends on them.
"""

from __future__ import annotations

from pathlib import Path

from unimoe_runtime.bundle.reader import Bundle, open_bundle

from .schemes import Engine, LinearPlan, QuantizationPlan, Scheme
from .statistics import linears
from .writing import write_quantized

SCHEMES = {"int8": Scheme.W8A8, "int8-weights": Scheme.W8, "int4": Scheme.W4}
"""The scheme of each precision that a plan knows by name."""

_INPUT_RANGE = 4.0


def quantize_probe(bundle: Bundle, out: Path, precision: str) -> Bundle:
    """Write `bundle` to `out` with every product in that precision, for ONNX Runtime."""
    scheme = SCHEMES[precision]
    plan = LinearPlan(scheme=scheme, input_range=_INPUT_RANGE if scheme.quantizes_inputs else None)
    plans = {linear: plan for linear in linears(bundle.model)}
    quantization = QuantizationPlan(engine=Engine.ONNXRUNTIME, linears=plans, arbitrary_codes=True)
    write_quantized(bundle, out, quantization, {})
    return open_bundle(out)
