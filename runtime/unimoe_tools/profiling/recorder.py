"""Recording where a generation's time goes, from inside the runtime, without a branch in its hot loop.

A recorded model is the same `BundleModel` over a wrapped forward, so an unrecorded run executes no instruction of this
file. Time is divided into parts without gaps: a mark starts a part.

Between two graphs all code and data come from memory again, so each wrapper costs a microsecond or two, and all
wrappers of a step 1 to 3 % of it. So only one step of `every` is recorded call by call; the other steps have marks for
begin, logits and end.

B rows · N = B tokens of a decode step · E dynamic experts (routed, then null) · K codebooks · M chosen tokens, or marks
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from time import perf_counter
from types import SimpleNamespace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.protocol import Backend, CachedPositions, Forward
from unimoe_runtime.backends.wrapper import WrappedBackend
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_runtime.synthesis.lru_cache import LRUCache

Floats = NDArray[np.float32]


class Part(IntEnum):
    """The parts of the time, in the order of a step."""

    PREFILL = 0  # inputs of the prefill: embedding rows, rotary embedding, mask, copies into bound buffers
    INPUTS = 1  # the same of a decode step; this mark begins a step
    TRUNK = 2
    READ_BACK = 3  # the router's decision to the host
    DISPATCH = 4  # in Python: evaluating the picks, and the code between two graphs
    EXPERT = 5
    HEAD = 6
    SAMPLING = 7  # guidance, draw, delay pattern
    CODEC = 8
    HOST = 9  # the consumer: frames collected, chunks cut
    PROFILER = 10  # our own work, excluded from every figure
    END = 11
    STEP = 12  # inputs to head of a step without call-by-call recording; this mark begins such a step


@dataclass(frozen=True, kw_only=True, eq=False)
class Marks:
    """All marks of one generation, in order; M marks.

    From `start_ns_M` (perf_counter_ns) to the next mark, the time belongs to `part_M`. Trunk, read-back, dispatch and
    experts have a layer; -1 stands for no layer or no expert.
    """

    start_ns_M: NDArray[np.int64]
    part_M: NDArray[np.int64]
    layer_M: NDArray[np.int64]
    expert_M: NDArray[np.int64]

    @property
    def begins_M(self) -> NDArray[np.bool_]:
        """True where a decode step begins."""
        return np.isin(self.part_M, (Part.INPUTS, Part.STEP))

    @property
    def step_M(self) -> NDArray[np.int64]:
        """The decode step of each mark; -1 in the prefill."""
        return np.cumsum(self.begins_M) - 1


def code(part: Part) -> float:
    """A part's code in a recorder's events. An expert's code is its number."""
    return -1.0 - part


class Recorder:
    """Marks of one generation: `mark(code)` begins a part.

    A mark is two appends to one list and a clock reading, through closures instead of attributes for speed. It has no
    layer of its own: its layer is that of the trunk before it, found by counting trunks.
    """

    def __init__(self) -> None:
        events: list[float] = []
        counts: list[int] = []
        self.put, self.count = events.append, counts.append
        self._events, self._counts = events, counts

    def mark(self, code: float) -> None:
        """Begin a part now."""
        self.put(code)
        self.put(perf_counter())

    def forget_counts(self) -> None:
        """Leave out the prefill."""
        self._counts.clear()

    def picks(self) -> NDArray[np.int64]:
        """Routed and null picks of each layer of each decode step that was recorded call by call: [S · L, 2]."""
        before_after = np.array(self._counts, dtype=np.int64).reshape(-1, 2, 2)
        return before_after[:, 1] - before_after[:, 0]

    def marks(self) -> Marks:
        events_M2 = np.array(self._events).reshape(-1, 2)
        code_M = events_M2[:, 0].astype(np.int64)
        part_M = np.where(code_M < 0, -1 - code_M, Part.EXPERT)
        trunks_M = np.cumsum(part_M == Part.TRUNK)
        passes_M = (part_M == Part.PREFILL) | (part_M == Part.INPUTS)
        before_pass_M = np.maximum.accumulate(np.where(passes_M, trunks_M, 0))
        inside_M = (part_M >= Part.TRUNK) & (part_M <= Part.EXPERT)
        return Marks(
            start_ns_M=np.rint(events_M2[:, 1] * 1e9).astype(np.int64),
            part_M=part_M,
            layer_M=np.where(inside_M, trunks_M - before_pass_M - 1, -1),
            expert_M=np.where(code_M < 0, -1, code_M),
        )


_PREFILL, _INPUTS, _TRUNK, _READ_BACK, _DISPATCH, _HEAD, _SAMPLING, _STEP = map(
    code,
    (Part.PREFILL, Part.INPUTS, Part.TRUNK, Part.READ_BACK, Part.DISPATCH, Part.HEAD, Part.SAMPLING, Part.STEP),
)
_Picked = Callable[[list[list[float]]], list[int]]


class RecordedModel(BundleModel):
    """`BundleModel` that reports its current part to a recorder. The results are the same.

    It records one of `every` decode steps call by call, starting with number `phase` (below `every`). `prefixes`: as
    `BundleModel` has them.
    """

    def __init__(
        self,
        backend: Backend,
        recorder: Recorder,
        *,
        every: int = 1,
        phase: int = 0,
        prefixes: LRUCache[CachedPositions] | None = None,
    ) -> None:
        self._wrapped = _RecordingBackend(backend, recorder)
        super().__init__(self._wrapped, prefixes=prefixes)
        self._recorder, self._every = recorder, every
        self._before_detail = phase
        self._plain_step = super().step
        self._plain_picked, self._marked_picked = super()._picked, self._recorded_picks(super()._picked)

    def prefill(self, prompt: Prompt) -> None:
        self._recorder.mark(_PREFILL)
        super().prefill(prompt)
        self._recorder.forget_counts()
        self._recorded_forward, self._forward = self._forward, self._wrapped.plain

    def step(self, codes_BK: NDArray[np.int64], position_B: Floats) -> Floats:
        put = self._recorder.put
        if self._before_detail:
            self._before_detail -= 1
            put(_STEP)
            put(perf_counter())
            logits_BKV = self._plain_step(codes_BK, position_B)
        else:
            self._before_detail = self._every - 1
            plain, self._forward = self._forward, self._recorded_forward
            self._picked = self._marked_picked  # type: ignore[method-assign,assignment]
            put(_INPUTS)
            put(perf_counter())
            logits_BKV = self._plain_step(codes_BK, position_B)
            self._forward, self._picked = plain, self._plain_picked  # type: ignore[method-assign]
        put(_SAMPLING)
        put(perf_counter())
        return logits_BKV

    def _recorded_picks(self, run: _Picked) -> _Picked:
        put, count, clock, dispatch = self._recorder.put, self._recorder.count, perf_counter, _DISPATCH

        def picked(weights_NE: list[list[float]]) -> list[int]:
            put(dispatch)
            put(clock())
            statistics = self.statistics
            count(statistics.routed_picks)
            count(statistics.null_picks)
            chosen = run(weights_NE)
            count(statistics.routed_picks)
            count(statistics.null_picks)
            return chosen

        return picked


class _RecordingBackend(WrappedBackend):
    """A backend whose forwards are recorded; the caller marks graphs that run by name. `plain`: the forward that
    started last, without marks."""

    plain: Forward

    def __init__(self, backend: Backend, recorder: Recorder) -> None:
        super().__init__(backend)
        self._recorder = recorder

    def start(self, num_rows: int) -> Forward:
        self.plain = super().start(num_rows)
        return _recorded(self.plain, self._recorder)


def _recorded(forward: Forward, recorder: Recorder) -> Forward:
    """A Forward with a mark before and after each trunk and expert, and before the head."""
    put, clock = recorder.put, perf_counter
    run_trunk, run_expert, run_head = forward.trunk, forward.expert, forward.head
    trunk_code, read_back, dispatch, head_code = _TRUNK, _READ_BACK, _DISPATCH, _HEAD

    def trunk(layer: int) -> Floats:
        put(trunk_code)
        put(clock())
        weights_NE = run_trunk(layer)
        put(read_back)
        put(clock())
        return weights_NE

    def expert(layer: int, expert: int, weight_N1: Floats) -> None:
        put(expert)
        put(clock())
        run_expert(layer, expert, weight_N1)
        put(dispatch)
        put(clock())

    def head(tokens_M: NDArray[np.int64]) -> Floats:
        put(head_code)
        put(clock())
        return run_head(tokens_M)

    others = {
        name: getattr(forward, name) for name in ("begin", "router_logits", "hidden", "snapshot", "restore", "close")
    }
    return cast(Forward, SimpleNamespace(trunk=trunk, expert=expert, head=head, **others))
