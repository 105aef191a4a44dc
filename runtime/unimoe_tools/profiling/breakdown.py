"""From marks to figures: the time of each part and layer, step by step, and the experts that ran.

M marks · S decode steps · P parts · L layers · R routed experts
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.config import ModelConfig
from unimoe_tools.profiling.recorder import Marks, Part

Floats = NDArray[np.float64]

NUM_PARTS = len(Part)
MODEL_PARTS = (Part.INPUTS, Part.TRUNK, Part.READ_BACK, Part.DISPATCH, Part.EXPERT, Part.HEAD)
STEP_PARTS = (*MODEL_PARTS, Part.SAMPLING)
DECODE_PARTS = (*STEP_PARTS, Part.CODEC, Part.HOST)
"""All parts of a decoding loop's time; a step excludes codec and host."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Breakdown:
    """One generation's time, in milliseconds.

    `prefill_ms`: from the prompt's inputs to its last expert. `parts_SP`: each step and the work after it, by part.
    `detailed_S`: the steps that were recorded call by call. Only these give `layers_LP`, the sums by layer and part,
    `experts_LR`, the sum for each routed expert, and `launches_LR`, its number of runs.
    """

    prefill_ms: float
    parts_SP: Floats
    detailed_S: NDArray[np.bool_]
    layers_LP: Floats
    experts_LR: Floats
    launches_LR: NDArray[np.int64]

    @property
    def model_ms_S(self) -> Floats:
        """Each step from its inputs to its head, the span that call-by-call recording splits into parts."""
        return np.asarray(self.parts_SP[:, [*MODEL_PARTS, Part.STEP]].sum(axis=1))

    @property
    def step_ms_S(self) -> Floats:
        """Each step, from its inputs until its codes are drawn."""
        return np.asarray(self.parts_SP[:, [*STEP_PARTS, Part.STEP]].sum(axis=1))

    @property
    def decode_ms(self) -> float:
        """All steps, with codec and host, without the profiler."""
        return float(self.parts_SP[:, [*DECODE_PARTS, Part.STEP]].sum())


def break_down(marks: Marks, config: ModelConfig) -> Breakdown:
    """Sums by step, part, layer and expert. The last mark ends the generation."""
    ms_M = np.append(np.diff(marks.start_ns_M), 0) / 1e6
    # Step -1 is the prefill.
    step_M = marks.step_M
    decode_M = step_M >= 0
    num_steps, layers, routed = int(step_M[-1]) + 1, config.num_layers, config.num_routed_experts

    def sums(where_M: NDArray[np.bool_], keys_M: NDArray[np.int64], shape: tuple[int, int]) -> Floats:
        counted = np.bincount(keys_M[where_M], weights=ms_M[where_M], minlength=shape[0] * shape[1])
        return np.asarray(counted, dtype=np.float64).reshape(shape)

    layer_M = decode_M & (marks.layer_M >= 0)
    expert_M = decode_M & (marks.expert_M >= 0)
    of_expert_M = marks.layer_M * routed + marks.expert_M
    launches = np.bincount(of_expert_M[expert_M], minlength=layers * routed)
    return Breakdown(
        prefill_ms=float(ms_M[~decode_M].sum()),
        parts_SP=sums(decode_M, step_M * NUM_PARTS + marks.part_M, (num_steps, NUM_PARTS)),
        detailed_S=marks.part_M[marks.begins_M] == Part.INPUTS,
        layers_LP=sums(layer_M, marks.layer_M * NUM_PARTS + marks.part_M, (layers, NUM_PARTS)),
        experts_LR=sums(expert_M, of_expert_M, (layers, routed)),
        launches_LR=launches.reshape(layers, routed),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Routing:
    """The routed experts that ran in one generation's decode steps that were recorded call by call, and the picks of
    its `num_rows` rows: routed and null picks, counted over the rows."""

    launched_SLR: NDArray[np.bool_]
    routed_picks_SL: NDArray[np.int64]
    null_picks_SL: NDArray[np.int64]
    num_rows: int

    @classmethod
    def from_marks(cls, marks: Marks, picks: NDArray[np.int64], config: ModelConfig, *, num_rows: int) -> Routing:
        """Routing from a recorder's marks and picks."""
        layers, routed = config.num_layers, config.num_routed_experts
        step_M = np.cumsum(marks.part_M == Part.INPUTS) - 1
        ran_M = (step_M >= 0) & (marks.expert_M >= 0)
        launched_SLR = np.zeros((int(step_M[-1]) + 1, layers, routed), dtype=np.bool_)
        launched_SLR[step_M[ran_M], marks.layer_M[ran_M], marks.expert_M[ran_M]] = True
        picks_SL2 = picks.reshape(-1, layers, 2)
        return cls(
            launched_SLR=launched_SLR,
            routed_picks_SL=picks_SL2[..., 0],
            null_picks_SL=picks_SL2[..., 1],
            num_rows=num_rows,
        )

    @property
    def num_steps(self) -> int:
        return len(self.launched_SLR)

    def join(self, other: Routing) -> Routing:
        """The steps of both, which must have the same number of rows."""
        return Routing(
            launched_SLR=np.concatenate([self.launched_SLR, other.launched_SLR]),
            routed_picks_SL=np.concatenate([self.routed_picks_SL, other.routed_picks_SL]),
            null_picks_SL=np.concatenate([self.null_picks_SL, other.null_picks_SL]),
            num_rows=self.num_rows,
        )

    def null_share_L(self) -> Floats:
        """Share of all picks that went to a null expert."""
        null_L = self.null_picks_SL.sum(axis=0)
        return np.asarray(null_L / np.maximum(null_L + self.routed_picks_SL.sum(axis=0), 1))

    def null_share(self) -> float:
        """The same over all layers."""
        null = self.null_picks_SL.sum()
        return float(null / max(null + self.routed_picks_SL.sum(), 1))

    def picked_a_row_L(self) -> Floats:
        """Routed experts that one row picks, on average."""
        return np.asarray(self.routed_picks_SL.sum(axis=0) / max(self.num_steps * self.num_rows, 1))

    def launched_mean_L(self) -> Floats:
        """Routed experts that ran in a step, on average."""
        return np.asarray(self.launched_SLR.sum(axis=(0, 2)) / max(self.num_steps, 1))

    def launched_histogram_L(self) -> list[list[int]]:
        """Per layer: in how many steps 0, 1, … routed experts ran."""
        counts_SL, most = self.launched_SLR.sum(axis=2), self.launched_SLR.shape[2]
        return [np.bincount(counts_S, minlength=most + 1).tolist() for counts_S in counts_SL.T]

    def launch_share_LR(self) -> Floats:
        """Share of the steps in which each expert ran."""
        return np.asarray(self.launched_SLR.sum(axis=0) / max(self.num_steps, 1))
