"""The plan for every target and precision: what fits, the predicted speed, and the recommended precision.

source = open_source("bundle")
report = make_plan(source, assumed_activation(source.model), [find_target("orin-nano-8gb")])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.bundle.routing_statistics import Activation
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import ConfigError
from unimoe_runtime.hardware.precisions import shown_precision
from unimoe_runtime.hardware.targets import Target
from unimoe_tools.planning.machines import BEST, MIDDLE, WORST, Machine, assumed_machine
from unimoe_tools.planning.roofline import Launches, Prediction, cache_bytes, predict
from unimoe_tools.planning.source import Source
from unimoe_tools.planning.weights import BITS, ModelBytes, model_bytes, plan_precisions

FORMAT = "unimoe-plan"
FORMAT_VERSION = 1
_BUSY = 0.9
"""Share of the steps that the recorded quantile covers."""
_ENOUGH_RTF = 0.7
"""The middle real-time factor that leaves room for the codec and for errors of the estimate."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One target at one precision. Triples are best, middle and worst; None where it does not fit, or has no codec.

    `needed_bytes`: weights with every expert, cache, codec, vision. `resident_share`: share of experts that fit;
    `missed_share`: share of launches of other experts. `busy_step_ms`: the middle value for a step at the 90th
    percentile of launches.
    """

    target: str
    precision: str
    weight_bytes: float
    needed_bytes: float
    memory_bytes: float
    resident_share: float
    missed_share: float
    step_bytes: float | None = None
    step_ms: tuple[float, float, float] | None = None
    busy_step_ms: float | None = None
    rtf: tuple[float, float, float] | None = None
    prefill_ms: tuple[float, float, float] | None = None
    ttfa_ms: tuple[float, float, float] | None = None
    chosen: bool = False
    reason: str = ""

    @property
    def fits(self) -> bool:
        """Whether the model can run."""
        return self.step_ms is not None

    @property
    def fits_whole(self) -> bool:
        return self.fits and self.resident_share == 1.0


def plan_row(
    source: Source,
    activation: Activation,
    target: Target,
    machine: Machine,
    precision: str,
    *,
    memory_budget_bytes: float | None = None,
) -> Row:
    """One cell of the plan. A budget below the machine's memory replaces it."""
    weights, model = source.weights(precision), source.model
    memory = min(machine.memory_bytes, memory_budget_bytes or machine.memory_bytes)
    cache = cache_bytes(model, activation.rows, source.workload.prompt_tokens + source.max_steps)
    needed = weights.resident + cache
    resident_LR = _resident(weights, activation, memory - (needed - float(weights.experts_LR.sum())))
    row = Row(
        target=target.name,
        precision=precision,
        weight_bytes=weights.resident - weights.extra,
        needed_bytes=needed,
        memory_bytes=memory,
        resident_share=0.0 if resident_LR is None else float(resident_LR.mean()) if resident_LR.size else 1.0,
        missed_share=1.0 if resident_LR is None else 1.0 - activation.resident_share(resident_LR),
    )
    if resident_LR is None:
        return replace(row, reason="does not fit, even without experts")

    def at(case: int, launched: float) -> Prediction:
        return predict(
            model, weights, activation, source.workload, machine.costs[case],
            Launches(count=launched, missed_share=row.missed_share),
        )  # fmt: skip

    found = (at(BEST, activation.low), at(MIDDLE, activation.mean), at(WORST, activation.high))

    def triple(name: str, factor: float) -> tuple[float, float, float]:
        best, middle, worst = (factor * getattr(prediction, name) for prediction in found)
        return best, middle, worst

    rate_hz = source.workload.frame_rate_hz
    return replace(
        row,
        step_bytes=found[MIDDLE].step_bytes,
        step_ms=triple("step_s", 1e3),
        busy_step_ms=1e3 * at(MIDDLE, activation.quantile(_BUSY)).step_s,
        rtf=None if rate_hz is None else triple("step_s", rate_hz),
        prefill_ms=triple("prefill_s", 1e3),
        ttfa_ms=triple("first_audio_s", 1e3),
    )


def _resident(weights: ModelBytes, activation: Activation, room: float) -> NDArray[np.bool_] | None:
    """The experts that fit into the room, the most frequent first; None where the rest of the model does not fit."""
    if room < 0:
        return None
    order = np.argsort(-activation.share_LR, axis=None, kind="stable")
    fits = weights.experts_LR.reshape(-1)[order].cumsum() <= room
    resident = np.zeros(order.shape, dtype=np.bool_)
    resident[order] = fits
    return resident.reshape(weights.experts_LR.shape)


def choose(rows: Sequence[Row], target: Target) -> list[Row]:
    """The rows of one target, the most exact first, with one of them chosen, and the reason.

    The choice is the most exact precision that fits completely and leaves a margin to real time; else the fastest that
    fits completely, else the fastest that fits. A GPU with 16-bit precisions excludes float32.
    """
    halves = any(BITS[row.precision] == 16 for row in rows)
    open_to = [row for row in rows if not (target.engine == "tensorrt" and row.precision == "float32" and halves)]

    def fastest(rows: Sequence[Row]) -> Row | None:
        return min(rows, key=lambda row: row.step_ms[MIDDLE] if row.step_ms else np.inf, default=None)

    whole = [row for row in open_to if row.fits_whole]
    in_time = [row for row in whole if row.rtf is None or row.rtf[MIDDLE] <= _ENOUGH_RTF]
    taken: Row | None
    if in_time:
        taken, reason = in_time[0], "the most exact that fits completely"
        if taken.rtf is not None:
            reason += f" and has a real-time factor of at most {_ENOUGH_RTF:g}"
    elif whole:
        taken, reason = (
            fastest(whole),
            f"the fastest that fits completely; none reaches a real-time factor of {_ENOUGH_RTF:g}",
        )
    else:
        taken, reason = fastest([row for row in open_to if row.fits]), "the fastest; experts load when they are picked"
    return [replace(row, chosen=True, reason=reason) if row is taken else row for row in rows]


def make_plan(
    source: Source,
    activation: Activation,
    targets: Sequence[Target],
    *,
    host: Mapping[str, Machine] | None = None,
    precision: str | None = None,
    memory_budget_bytes: float | None = None,
) -> dict[str, Any]:
    """The complete plan as JSON. `host` is this CPU at each precision, for targets that run ONNX Runtime.

    Raises ConfigError for a precision that none of the targets has.
    """
    rows: list[Row] = []
    notes: dict[str, tuple[str, ...]] = {}
    for target in targets:
        precisions = [one for one in plan_precisions(target) if precision in (None, one)]
        if not precisions:
            continue
        measured = host if target.bandwidth_gb_per_s is None else None
        machines = measured or dict.fromkeys(precisions, assumed_machine(target))
        notes[target.name] = machines[precisions[0]].assumptions
        rows += choose(
            [
                plan_row(source, activation, target, machines[one], one, memory_budget_bytes=memory_budget_bytes)
                for one in precisions
            ],
            target,
        )
    if not rows:
        names = ", ".join(target.name for target in targets)
        raise ConfigError(f"precision {shown_precision(precision or '')} is not one that {names} has")

    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "source": source.name,
        "parameters": _parameters(source.model),
        "activation": {
            "source": activation.source,
            "rows": activation.rows,
            "experts_a_step": activation.mean,
            "nine_of_ten_steps": activation.quantile(_BUSY),
            "low": activation.low,
            "high": activation.high,
            "of": source.model.num_layers * source.model.num_routed_experts,
        },
        "workload": {**asdict(source.workload), "max_steps": source.max_steps},
        "delay_steps": max(source.model.delay_pattern),
        "first_frames": source.workload.first_frames(),
        "rows": [
            {**asdict(row), "precision": shown_precision(row.precision), "fits": row.fits, "fits_whole": row.fits_whole}
            for row in rows
        ],
        "assumptions": {"all": _assumptions(source, activation), **notes},
    }


def _parameters(model: ModelConfig) -> float:
    """Number of parameters of the language model's graphs and its codec embeddings."""
    weights = model_bytes(model, "float32")
    return (weights.resident + weights.embeddings) / 4


def _assumptions(source: Source, activation: Activation) -> list[str]:
    workload = source.workload
    return [
        f"experts a step: {activation.source}",
        f"{activation.rows} rows a step, one utterance; prompt of {workload.prompt_tokens} tokens, "
        f"{workload.cached_positions} positions in the cache on average",
        "every weight is read once a step, whatever the caches hold of it; the codec's time is not counted",
        "best: the best machine and the fewest experts; worst: the worst machine and the most experts",
    ]
