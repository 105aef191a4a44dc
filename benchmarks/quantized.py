"""The measured model in int8, calibrated with every number of picked experts equally often.

T steps · K codebooks
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unimoe_calibration.data import Sample
from unimoe_calibration.decisions import plan_quantization
from unimoe_calibration.observation import InputObserver
from unimoe_calibration.schemes import Engine, Scheme
from unimoe_calibration.statistics import Statistics
from unimoe_calibration.writing import write_quantized
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.model.teacher_forcing import forced_prompt

from .workload import MAX_PICKED, codes, prompt

_PROMPT_TOKENS = 8
_STEPS = 8 * (MAX_PICKED + 1)


def gather_statistics(bundle: Bundle) -> Statistics:
    """Statistics of the products' inputs of a workload's bundle over one random sequence."""
    random = np.random.default_rng(0)
    codes_TK = np.stack([codes(bundle.model, step % (MAX_PICKED + 1), random)[0] for step in range(_STEPS)])
    forced = forced_prompt(prompt(bundle.model, _PROMPT_TOKENS), codes_TK, bundle.model)
    num_rows = forced.text_ids_BT.shape[1] - _PROMPT_TOKENS
    statistics = Statistics.empty(bundle.model)
    InputObserver(bundle, statistics).observe(
        [Sample(name="random", domain="random", prompt=forced, num_rows=num_rows)]
    )
    return statistics


def write_int8(bundle_dir: Path, out: Path) -> None:
    """The W8A8 bundle of a workload's float32 bundle, for ONNX Runtime, planned as `unimoe calibrate` plans it."""
    bundle, engine = open_bundle(bundle_dir), Engine.ONNXRUNTIME
    statistics = gather_statistics(bundle)
    plan, _ = plan_quantization(bundle, statistics, dict.fromkeys(statistics.linears, Scheme.W8A8), engine)
    write_quantized(bundle, out, plan, {})
