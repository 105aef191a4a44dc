"""Quantization plans of tests, and what a bundle computes over a prompt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unimoe_calibration.schemes import Engine, LinearPlan, QuantizationPlan, Scheme
from unimoe_calibration.statistics import Linear, linears
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.synthesis.language_model import BundleModel

RANGE = 6.0
"""The input range of every product in `plan_of`."""


def plan_of(
    bundle: Bundle, scheme: Scheme, engine: Engine = Engine.ONNXRUNTIME, per_row: bool = False
) -> QuantizationPlan:
    """One scheme for all products, with one input range, or with ranges by row after SwiGLU."""
    one = LinearPlan(scheme=scheme, input_range=RANGE if scheme.quantizes_inputs else None)
    plans = dict.fromkeys(linears(bundle.model), one)
    if per_row:
        after_swiglu = [linear for linear in plans if linear.weight in ("down.weight", "shared.down.weight")]
        plans.update(dict.fromkeys(after_swiglu, LinearPlan(scheme=scheme, per_row=True)))
    return QuantizationPlan(engine=engine, linears=plans)


def one_scheme(bundle: Bundle, scheme: Scheme, smoothing: dict[Linear, np.ndarray] | None = None) -> QuantizationPlan:
    """One scheme for all products, without input ranges."""
    return QuantizationPlan(
        engine=Engine.ONNXRUNTIME,
        linears=dict.fromkeys(linears(bundle.model), LinearPlan(scheme=scheme)),
        smoothing=smoothing or {},
    )


def read(bundle: Bundle, prompt: Prompt) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """Logits of all tokens of a prompt, and each layer's router logits and weights."""
    routing: list[NDArray[np.float32]] = []
    backend = open_backend("onnxruntime", bundle)
    model = BundleModel(backend, observer=lambda layer, *values: routing.extend(value.copy() for value in values))
    model.prefill(prompt)
    return model.logits(np.arange(prompt.text_ids_BT.size)), routing
