"""Recording where a generation's time goes, from inside the runtime, without a branch in its hot loop.

A recorded model is the same `BundleModel` over a forward that is wrapped, so a run that is not recorded executes
not one instruction of this file. Time is cut into parts without gaps: a mark says "from now on, this part".

B rows · N = B tokens of a decode step · E dynamic experts (routed, then null) · K codebooks · M chosen tokens, or marks
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from time import perf_counter_ns
from types import SimpleNamespace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ..backends import Array, Backend, Forward
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
    """Marks of one generation: `mark(code)` begins a part.

    Between two graphs every line comes from memory again, so what counts is how little is touched: two appends to one
    list and a clock reading, no frame, no attribute where a closure's cell will do.
    """

    def __init__(self) -> None:
        events: list[int] = []
        counts: list[int] = []
        self.put, self.count = events.append, counts.append
        self._events, self._counts = events, counts

    def mark(self, code: int) -> None:
        self.put(code)
        self.put(perf_counter_ns())

    def forget_counts(self) -> None:
        """Leave out the prompt's pass."""
        self._counts.clear()

    def picks(self) -> NDArray[np.int64]:
        """Totals of routed and of null picks after each layer of each decode step: [S · L, 2]."""
        return np.array(self._counts, dtype=np.int64).reshape(-1, 2)

    def marks(self) -> Marks:
        codes_M = np.array(self._events[::2], dtype=np.int64)
        part_M = codes_M // _PART
        trunk_M = part_M == Part.TRUNK
        # Read-back, dispatch and experts belong to the layer of the trunk before them.
        last_M = np.maximum.accumulate(np.where(trunk_M, np.arange(len(codes_M)), 0))
        inside_M = (part_M >= Part.TRUNK) & (part_M <= Part.EXPERT)
        return Marks(
            start_ns_M=np.array(self._events[1::2], dtype=np.int64),
            part_M=part_M,
            layer_M=np.where(inside_M, codes_M[last_M] % _PART // _LAYER, -1),
            expert_M=np.where(part_M == Part.EXPERT, codes_M % _LAYER, -1),
        )


def code(part: Part, layer: int = 0, expert: int = 0) -> int:
    """What `Recorder.mark` takes."""
    return part * _PART + layer * _LAYER + expert


class RecordedModel(BundleModel):
    """`BundleModel` that says to a recorder what it is at. Computes the same."""

    def __init__(self, backend: Backend, recorder: Recorder) -> None:
        super().__init__(_RecordingBackend(backend, recorder))
        self._recorder = recorder
        # On the instance, found before the method: one frame less than overriding it.
        vars(self)["_picked"] = self._recorded_picks(super()._picked)

    def prefill(self, prompt: Prompt) -> None:
        self._recorder.mark(code(Part.PREFILL))
        super().prefill(prompt)
        self._recorder.forget_counts()

    def step(self, codes_BK: NDArray[np.int64], position_B: Floats) -> Floats:
        self._recorder.mark(_INPUTS)
        logits_BKV = super().step(codes_BK, position_B)
        self._recorder.mark(_SAMPLING)
        return logits_BKV

    def _recorded_picks(
        self, run: Callable[[list[list[float]]], list[int]]
    ) -> Callable[[list[list[float]]], list[int]]:
        put, count, clock, dispatch = self._recorder.put, self._recorder.count, perf_counter_ns, code(Part.DISPATCH)

        def picked(weights_NE: list[list[float]]) -> list[int]:
            put(dispatch)
            put(clock())
            chosen = run(weights_NE)
            statistics = self.statistics
            count(statistics.routed_picks)
            count(statistics.null_picks)
            return chosen

        return picked


_INPUTS, _SAMPLING = code(Part.INPUTS), code(Part.SAMPLING)


class _RecordingBackend:
    """A Backend whose forwards are recorded; what runs by name is left to the caller to mark."""

    bundle: Bundle

    def __init__(self, backend: Backend, recorder: Recorder) -> None:
        self.name, self.bundle = backend.name, backend.bundle
        self._backend, self._recorder = backend, recorder

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self._backend.run(graph, inputs)

    def start(self, num_rows: int) -> Forward:
        return _recording_forward(self._backend.start(num_rows), self._recorder, self.bundle.model)

    def load(self, graphs: Iterable[str] | None = None) -> None:
        self._backend.load(graphs)

    def residency(self) -> Residency | None:
        return self._backend.residency()

    def close(self) -> None:
        self._backend.close()


def _recording_forward(forward: Forward, recorder: Recorder, config: ModelConfig) -> Forward:
    """The Forward with a mark before and after each trunk and expert, and before the head."""
    put, clock = recorder.put, perf_counter_ns
    run_trunk, run_expert, run_head = forward.trunk, forward.expert, forward.head
    read_back, dispatch, head_code = map(code, (Part.READ_BACK, Part.DISPATCH, Part.HEAD))
    trunks = [code(Part.TRUNK, layer) for layer in range(config.num_layers)]
    experts = [
        [code(Part.EXPERT, layer, expert) for expert in range(config.num_routed_experts)]
        for layer in range(config.num_layers)
    ]

    def trunk(layer: int) -> Floats:
        put(trunks[layer])
        put(clock())
        weights_NE = run_trunk(layer)
        put(read_back)
        put(clock())
        return weights_NE

    def expert(layer: int, expert: int, weight_N1: Floats) -> None:
        put(experts[layer][expert])
        put(clock())
        run_expert(layer, expert, weight_N1)
        put(dispatch)
        put(clock())

    def head(tokens_M: NDArray[np.int64]) -> Floats:
        put(head_code)
        put(clock())
        return run_head(tokens_M)

    others = {name: getattr(forward, name) for name in ("begin", "router_logits", "hidden", "snapshot", "restore")}
    return cast(Forward, SimpleNamespace(trunk=trunk, expert=expert, head=head, **others))
