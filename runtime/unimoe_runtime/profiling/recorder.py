"""Recording where a generation's time goes, from inside the runtime, without a branch in its hot loop.

A recorded model is the same `BundleModel` over a forward that is wrapped, so a run that is not recorded executes
not one instruction of this file. Time is cut into parts without gaps: a mark says "from now on, this part", with one
clock reading and two stores into buffers that exist before the run begins.

B rows · N = B tokens of a decode step · E dynamic experts (routed, then null) · K codebooks · M chosen tokens, or marks
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from ..backends import Array, Backend, CachedPositions, Forward, StepInputs
from ..bundle import Bundle
from ..config import ModelConfig
from ..generation import Prompt
from ..language_model import BundleModel
from ..residency import Residency

Floats = NDArray[np.float32]


class Part(IntEnum):
    """What the time goes to. The order is that of a step."""

    PREFILL = 0  # inputs of the prompt's pass: embedding rows, rotary embedding, mask, copies into bound buffers
    INPUTS = 1  # the same of a decode step; this mark begins a step
    TRUNK = 2
    READ_BACK = 3  # the router's decision to the host
    DISPATCH = 4  # in Python: what was picked, and what lies between two graphs
    EXPERT = 5
    HEAD = 6
    SAMPLING = 7  # guidance, draw, delay pattern
    CODEC = 8
    HOST = 9  # the consumer: frames collected, chunks cut
    PROFILER = 10  # our own doing, taken out of every figure
    END = 11


@dataclass(frozen=True, kw_only=True, eq=False)
class Marks:
    """All marks of one generation, in order; M marks.

    From `start_ns_M` (perf_counter_ns) to the next mark's, the time goes to `part_M`. Trunk, read-back, dispatch and
    experts have a layer; what has no layer or no expert has -1.
    """

    start_ns_M: NDArray[np.int64]
    part_M: NDArray[np.int64]
    layer_M: NDArray[np.int64]
    expert_M: NDArray[np.int64]


_PART, _LAYER = 1 << 20, 1 << 10


class Recorder:
    """Marks of one generation, in buffers that exist before it begins: `mark(code)` begins a part.

    `picks` gets the routing weights [N][E] of each trunk of a decode step, in the order of the calls: lists that the
    dispatch loop makes anyway. Raises IndexError beyond `capacity` marks.
    """

    def __init__(self, capacity: int) -> None:
        # Lists and a closure: 0.13 µs a mark, of which the clock takes 0.07; arrays and attributes take 0.4.
        times_ns, codes, count = [0] * capacity, [0] * capacity, 0

        def mark(code: int) -> None:
            nonlocal count
            times_ns[count] = perf_counter_ns()
            codes[count] = code
            count += 1

        def filled() -> tuple[list[int], list[int]]:
            return times_ns[:count], codes[:count]

        self.mark, self._filled = mark, filled
        self.picks: list[list[list[float]]] = []

    def marks(self) -> Marks:
        times_ns, codes = self._filled()
        codes_M = np.array(codes, dtype=np.int64)
        part_M = codes_M // _PART
        trunk_M = part_M == Part.TRUNK
        # Read-back, dispatch and experts belong to the layer of the trunk before them.
        last_M = np.maximum.accumulate(np.where(trunk_M, np.arange(len(codes_M)), 0))
        inside_M = (part_M >= Part.TRUNK) & (part_M <= Part.EXPERT)
        return Marks(
            start_ns_M=np.array(times_ns, dtype=np.int64),
            part_M=part_M,
            layer_M=np.where(inside_M, codes_M[last_M] % _PART // _LAYER, -1),
            expert_M=np.where(part_M == Part.EXPERT, codes_M % _LAYER, -1),
        )


def code(part: Part, layer: int = 0, expert: int = 0) -> int:
    """What `Recorder.mark` takes."""
    return part * _PART + layer * _LAYER + expert


def marks_needed(config: ModelConfig, steps: int) -> int:
    """The most marks that a generation of so many steps makes, with some for what stands around the steps."""
    a_pass = 4 + config.num_layers * (3 + 2 * config.num_routed_experts)
    return (steps + 1) * (a_pass + 6) + 1000


class RecordedModel(BundleModel):
    """`BundleModel` that says to a recorder what it is at. Computes the same."""

    def __init__(self, backend: Backend, recorder: Recorder) -> None:
        super().__init__(_RecordingBackend(backend, recorder))
        self._recorder, self._mark = recorder, recorder.mark
        self._code_inputs, self._code_dispatch, self._code_sampling = map(
            code, (Part.INPUTS, Part.DISPATCH, Part.SAMPLING)
        )

    def prefill(self, prompt: Prompt) -> None:
        self._mark(code(Part.PREFILL))
        super().prefill(prompt)
        self._recorder.picks.clear()

    def step(self, codes_BK: NDArray[np.int64], position_B: Floats) -> Floats:
        self._mark(self._code_inputs)
        logits_BKV = super().step(codes_BK, position_B)
        self._mark(self._code_sampling)
        return logits_BKV

    def _picked(self, weights_NE: list[list[float]]) -> list[int]:
        self._mark(self._code_dispatch)
        self._recorder.picks.append(weights_NE)
        return super()._picked(weights_NE)


class _RecordingBackend:
    """A Backend whose forwards are recorded; what runs by name is left to the caller to mark."""

    def __init__(self, backend: Backend, recorder: Recorder) -> None:
        self.name, self.bundle = backend.name, backend.bundle
        self._backend, self._recorder = backend, recorder

    bundle: Bundle

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self._backend.run(graph, inputs)

    def start(self, num_rows: int) -> Forward:
        return _RecordingForward(self._backend.start(num_rows), self._recorder, self.bundle.model)

    def load(self, graphs: Iterable[str] | None = None) -> None:
        self._backend.load(graphs)

    def residency(self) -> Residency | None:
        return self._backend.residency()

    def close(self) -> None:
        self._backend.close()


class _RecordingForward:
    """A Forward with a mark before and after each graph."""

    def __init__(self, forward: Forward, recorder: Recorder, config: ModelConfig) -> None:
        self._forward, self._mark = forward, recorder.mark
        self._run_trunk, self._run_expert = forward.trunk, forward.expert
        self._trunks = [code(Part.TRUNK, layer) for layer in range(config.num_layers)]
        self._experts = [
            [code(Part.EXPERT, layer, expert) for expert in range(config.num_routed_experts)]
            for layer in range(config.num_layers)
        ]
        self._read_back, self._dispatch, self._head = map(code, (Part.READ_BACK, Part.DISPATCH, Part.HEAD))

    def begin(self, inputs: StepInputs) -> None:
        self._forward.begin(inputs)

    def trunk(self, layer: int) -> Floats:
        self._mark(self._trunks[layer])
        weights_NE = self._run_trunk(layer)
        self._mark(self._read_back)
        return weights_NE

    def router_logits(self) -> Floats:
        return self._forward.router_logits()

    def expert(self, layer: int, expert: int, weight_N1: Floats) -> None:
        self._mark(self._experts[layer][expert])
        self._run_expert(layer, expert, weight_N1)
        self._mark(self._dispatch)

    def hidden(self) -> Floats:
        return self._forward.hidden()

    def head(self, tokens_M: NDArray[np.int64]) -> Floats:
        self._mark(self._head)
        return self._forward.head(tokens_M)

    def snapshot(self, num_positions: int) -> CachedPositions:
        return self._forward.snapshot(num_positions)

    def restore(self, cached: CachedPositions, capacity: int) -> None:
        self._forward.restore(cached, capacity)
