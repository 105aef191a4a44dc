"""The errors of a profile's means, from their differences between repetitions.

S decode steps · P parts · L layers · F fields · R repetitions
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from unimoe_tools.profiling.breakdown import DECODE_PARTS, MODEL_PARTS, Routing
from unimoe_tools.profiling.measure import Generation
from unimoe_tools.profiling.recorder import Part

_LAYER_FIELDS = ("trunk_error_ms", "expert_error_ms", "launched_error", "picked_a_row_error", "null_share_error")


@dataclass(frozen=True, kw_only=True)
class ErrorsOfMeans:
    """Two standard errors of means, from the differences between repetitions; None with one repetition.

    `layers`: a list over the layers by field name. `launched`, `null_share`: over all layers. `bytes`: of a step.
    """

    step_ms: float | None
    launched: float | None
    null_share: float | None
    bytes: float | None
    parts_ms: Mapping[str, float | None]
    layers: Mapping[str, list[float | None]]


def errors_of_means(generations: Sequence[Generation], expert_bytes_LR: NDArray[np.float64]) -> ErrorsOfMeans:
    """The errors from all measured generations of a setting, in order of repetition. `expert_bytes_LR`: bytes of each
    expert's weights."""
    requests = len({generation.request for generation in generations})
    repetitions = [generations[at : at + requests] for at in range(0, len(generations), requests)]

    def error(values: Sequence[float]) -> float | None:
        return float(2 * np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None

    def part_ms(repetition: Sequence[Generation], part: Part) -> float:
        parts_SP = np.concatenate([one.breakdown.parts_SP for one in repetition])
        detailed_S = np.concatenate([one.breakdown.detailed_S for one in repetition])
        rows_SP = parts_SP[detailed_S] if part in MODEL_PARTS else parts_SP
        return float(rows_SP[:, part].mean())

    def layer_figures(repetition: Sequence[Generation]) -> NDArray[np.float64]:
        """[field, layer]: milliseconds of trunk and experts, experts launched, picks of a row, null share."""
        steps = sum(int(one.breakdown.detailed_S.sum()) for one in repetition)
        ms_LP = np.sum([one.breakdown.layers_LP for one in repetition], axis=0) / steps
        routing = joined_routing(repetition)
        return np.stack([
            ms_LP[:, Part.TRUNK], ms_LP[:, Part.EXPERT], routing.launched_mean_L(), routing.picked_a_row_L(),
            routing.null_share_L(),
        ])  # fmt: skip

    steps = [float(np.concatenate([one.breakdown.step_ms_S for one in each]).mean()) for each in repetitions]
    figures_RFL = np.stack([layer_figures(each) for each in repetitions])
    routings = [joined_routing(each) for each in repetitions]
    return ErrorsOfMeans(
        step_ms=error(steps),
        launched=error([float(one.launched_mean_L().sum()) for one in routings]),
        null_share=error([one.null_share() for one in routings]),
        bytes=error([float((one.launch_share_LR() * expert_bytes_LR).sum()) for one in routings]),
        parts_ms={part.name.lower(): error([part_ms(each, part) for each in repetitions]) for part in DECODE_PARTS},
        layers={
            name: [error(figures_RFL[:, field, layer].tolist()) for layer in range(figures_RFL.shape[2])]
            for field, name in enumerate(_LAYER_FIELDS)
        },
    )


def joined_routing(generations: Sequence[Generation]) -> Routing:
    """The routing of all steps of the generations."""
    return reduce(Routing.join, (generation.routing for generation in generations))
