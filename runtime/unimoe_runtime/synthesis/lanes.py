"""Streams divided among schedulers: one, or two for a small model on a machine with several cores.

A step of a small model hardly gains from a second thread: its products are too short to divide. Two schedulers, each
with half of the streams and a core of its own, make more steps in the same time, although each step has fewer rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TypeVar

from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.synthesis.decoding import Decoding
from unimoe_runtime.synthesis.language_model import Embedder
from unimoe_runtime.synthesis.scheduler import StepScheduler
from unimoe_runtime.synthesis.step_statistics import StepStatistics

Result = TypeVar("Result")


class Lanes:
    """The schedulers of a synthesizer, with the interface of one. A stream stays in the lane that it was added to."""

    def __init__(self, backend: Backend, embedder: Embedder) -> None:
        self._lanes = [StepScheduler(backend, embedder) for _ in range(backend.lanes)]

    @property
    def is_own_thread(self) -> bool:
        """Whether the caller runs in a scheduler's thread."""
        return any(lane.is_own_thread for lane in self._lanes)

    @property
    def statistics(self) -> StepStatistics:
        """The counts of all lanes."""
        each = [lane.statistics for lane in self._lanes]
        return StepStatistics(
            **{field.name: sum(getattr(counts, field.name) for counts in each) for field in fields(StepStatistics)}
        )

    def add(self, stream: Decoding) -> None:
        """Add a stream to the lane that has the fewest. It makes no step before its frames are requested."""
        stream.lane = min(range(len(self._lanes)), key=lambda index: self._lanes[index].num_open)
        self._lanes[stream.lane].add(stream)

    def ask(self, stream: Decoding, target: int, deadline: float, *, rides: bool = False) -> None:
        """`StepScheduler.ask` in the stream's lane."""
        self._lanes[stream.lane].ask(stream, target, deadline, rides=rides)

    def wait(self, stream: Decoding, target: int) -> None:
        """`StepScheduler.wait` in the stream's lane."""
        self._lanes[stream.lane].wait(stream, target)

    def decode(self, stream: Decoding, chunk: Callable[[], Result], expected_s: float) -> Result:
        """`StepScheduler.decode` in the stream's lane."""
        return self._lanes[stream.lane].decode(stream, chunk, expected_s)

    def cancel(self, stream: Decoding) -> None:
        """End a stream at its next step. Does not wait."""
        self._lanes[stream.lane].cancel(stream)

    def join(self, stream: Decoding) -> None:
        """Wait until a cancelled stream has freed its memory."""
        if not self.is_own_thread:
            self._lanes[stream.lane].join(stream)

    def close(self, at_end: Callable[[], None]) -> None:
        """End all streams, then call `at_end`, in this thread or, if called from a scheduler's thread, at its end."""
        *others, last = sorted(self._lanes, key=lambda lane: lane.is_own_thread)
        for lane in others:
            lane.close(at_end=lambda: None)
        last.close(at_end=at_end)
