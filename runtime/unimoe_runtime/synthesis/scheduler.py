"""The one thread that runs the language model for all streams of a synthesizer.

Readers tell how many frames they wait for, and until when. The thread reads new prompts and makes steps, one step for
all streams that wait. A single stream decodes in its own cache; several share one (`SharedSteps`). A stream whose
reader is busy rides along: others' steps also make the frames of its next chunk, because a row more costs little.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TypeVar
from weakref import WeakSet

import numpy as np

from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.errors import ClosedError
from unimoe_runtime.synthesis.decoding import Decoding
from unimoe_runtime.synthesis.drawing import draw_all
from unimoe_runtime.synthesis.gathering import Gathering
from unimoe_runtime.synthesis.language_model import Embedder
from unimoe_runtime.synthesis.shared_steps import SharedSteps
from unimoe_runtime.synthesis.step_statistics import Counts, Durations, StepStatistics
from unimoe_runtime.synthesis.turns import next_turn

_IDLE_S, _LONG_CHUNK_S = 10.0, 0.02  # a longer chunk would hold up the other streams' steps

Result = TypeVar("Result")

_RUNNING: WeakSet[StepScheduler] = WeakSet()


@atexit.register
def _end_all() -> None:
    """End running schedulers when the program ends: a thread killed within the engine would abort the process."""
    for scheduler in list(_RUNNING):
        scheduler.close(at_end=lambda: None)


class StepScheduler:
    """Runs the added streams in a thread that exists while there is work, and for some time afterwards."""

    def __init__(self, backend: Backend, embedder: Embedder) -> None:
        self._counts = backend.row_counts
        self._shared = SharedSteps(backend, embedder)
        self._gathering, self._shares_cores = Gathering(self._shared, self._counts), backend.on_host
        self._lock = threading.RLock()
        self._work, self._ended = threading.Condition(self._lock), threading.Condition(self._lock)
        self._streams: list[Decoding] = []
        self._chunks: deque[Callable[[], None]] = deque()
        self._durations, self._done = Durations(), Counts()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._at_end: Callable[[], None] | None = None

    @property
    def is_own_thread(self) -> bool:
        return threading.current_thread() is self._thread

    @property
    def num_open(self) -> int:
        """Number of streams that have not ended."""
        return len(self._streams)

    @property
    def statistics(self) -> StepStatistics:
        with self._lock:
            active = sum(stream.is_wanted and not stream.rides for stream in self._streams)
            return self._done.snapshot(active=active, open=len(self._streams))

    def add(self, stream: Decoding) -> None:
        """Add a stream. It makes no step before its frames are requested."""
        stream.begin()
        with self._lock:
            stream.arrived = threading.Condition(self._lock)
            self._streams.append(stream)
            if self._closed:
                self._fail(stream, ClosedError("the synthesizer is closed: open the bundle again"))
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="unimoe steps", daemon=True)
                self._thread.start()
                _RUNNING.add(self)

    def ask(self, stream: Decoding, target: int, deadline: float, *, rides: bool = False) -> None:
        """Make steps until a stream has `target` frames, if possible by `deadline`. With `rides`, only steps that
        other streams need are made for it too."""
        with self._lock:
            stream.target, stream.deadline, stream.rides = target, deadline, rides
            if not rides:
                self._work.notify()

    def wait(self, stream: Decoding, target: int) -> None:
        """Wait until a stream has `target` frames or is over. Raises its error."""
        assert stream.arrived is not None
        with self._lock:
            while len(stream.frames) < target and not stream.freed:
                stream.arrived.wait()
        if stream.error is not None:
            raise stream.error

    def decode(self, stream: Decoding, chunk: Callable[[], Result], expected_s: float) -> Result:
        """Run a stream's codec, `chunk`: here, or between two steps if other streams wait for steps on the same cores.

        The engine's threads wait for each other actively. A step and a codec at once have more threads than there are
        cores, and each wait then lasts until the system puts another thread on the core.
        """
        made: Future[Result] = Future()
        with self._lock:
            others = any(other.is_wanted and not other.rides for other in self._streams if other is not stream)
            is_running = self._thread is not None and not self._closed and not self.is_own_thread
            is_between = self._shares_cores and others and is_running and expected_s < _LONG_CHUNK_S
            if is_between:
                self._chunks.append(partial(_complete, made, chunk))
                self._work.notify()
        return made.result() if is_between else chunk()

    def cancel(self, stream: Decoding) -> None:
        """End a stream at its next step. Does not wait."""
        with self._lock:
            stream.cancelled = True
            self._work.notify()

    def join(self, stream: Decoding) -> None:
        """Wait until a cancelled stream has freed its memory."""
        if self.is_own_thread:
            return
        with self._lock:
            while stream in self._streams:
                self._ended.wait()

    def close(self, at_end: Callable[[], None]) -> None:
        """End all streams, then call `at_end`, in this thread or, if called from the scheduler's thread, at its end."""
        with self._lock:
            self._closed = True
            for stream in self._streams:
                stream.cancelled = True
            self._work.notify()
            thread = self._thread
            if thread is None:
                self._end()
        if self.is_own_thread:
            self._at_end = at_end
            return
        if thread is not None:
            thread.join()
        at_end()

    def _run(self) -> None:
        try:
            # The check of the logits tells of damaged weights; numpy's warnings would only add to it.
            with np.errstate(all="ignore"):
                while (work := self._next()) is not None:
                    work()
        except BaseException as error:  # a bug: no reader may wait forever
            with self._lock:
                for stream in self._streams:
                    stream.error = stream.error or error
                self._closed = True
        finally:
            with self._lock:
                if self._closed:
                    self._end()
                left, self._thread = (list(self._chunks), None) if self.is_own_thread else ([], self._thread)
                at_end, self._at_end = self._at_end, None
            for chunk in left:
                chunk()
            if at_end is not None:
                at_end()

    def _end(self) -> None:
        for stream in list(self._streams):
            self._finish(stream)
        self._shared.close()

    def _next(self) -> Callable[[], None] | None:
        """The next unit of work; waits for it. None if the thread should end."""
        with self._lock:
            while True:
                if self._chunks:
                    return self._chunks.popleft()
                now, asked, riding = time.perf_counter(), [], []
                for stream in [stream for stream in self._streams if stream.cancelled or stream.is_wanted]:
                    stream.check(now)
                    if stream.over:
                        self._finish(stream)
                    elif not stream.rides:
                        asked.append(stream)
                    elif not stream.positions_left:
                        riding.append(stream)
                if self._closed:
                    return None
                if asked:
                    turn = next_turn(asked + riding, now, self._durations, self._counts)
                    if turn.reading is not None:
                        return partial(self._read, turn.reading, turn.num_positions)
                    return partial(self._step, list(turn.batch), turn.left_out)
                if not self._work.wait(_IDLE_S) and not self._streams:
                    self._thread = None
                    return None

    def _read(self, stream: Decoding, num_positions: int) -> None:
        """Read a piece of a prompt."""
        if stream.model in self._shared:
            self._shared.leave(stream.model)
        began = time.perf_counter()
        try:
            positions = stream.read(num_positions)
        except Exception as error:
            self._fail(stream, error)
            return
        seconds = time.perf_counter() - began
        self._durations.add_positions(positions, seconds)
        self._done.pieces += 1
        self._done.positions += positions
        self._done.prompt_s += seconds

    def _step(self, batch: list[Decoding], left_out: Sequence[Decoding] = ()) -> None:
        if len(batch) > 1 or batch[0].model in self._shared:
            failed = self._gathering.gather([stream.model for stream in batch], {stream.model for stream in left_out})
            for stream in [stream for stream in batch if stream.model in failed]:
                self._fail(stream, failed[stream.model])
                batch.remove(stream)
        if not batch:
            return
        began = time.perf_counter()
        try:
            codes, launched, rows = self._decode(batch)
        except Exception as error:
            if len(batch) == 1:
                self._fail(batch[0], error)
            else:  # the failing stream is found by making the step for each alone
                for stream in batch:
                    self._step([stream])
            return
        seconds = time.perf_counter() - began
        self._durations.add_step(len(batch), seconds)
        self._done.steps += 1
        self._done.streams += len(batch)
        self._done.rows += rows
        self._done.launched += launched
        self._done.step_s += seconds
        for stream, row in zip(batch, codes, strict=True):
            try:
                with self._lock:
                    stream.accept(row, seconds)
                stream.report()
            except Exception as error:  # from a callback, or from the text's next piece
                self._fail(stream, error)
        with self._lock:
            for stream in batch:
                if stream.over and not stream.freed:
                    self._finish(stream)
                elif stream.arrived is not None and not stream.is_wanted:
                    stream.arrived.notify()

    def _decode(self, batch: list[Decoding]) -> tuple[list[list[int]], int, int]:
        """One step: codes for each stream, the number of launched experts, and the number of rows."""
        model = batch[0].model
        if model not in self._shared:
            stream, before = batch[0], model.statistics.launched
            logits_RKV = model.step_alone(stream.utterance.codes, stream.positions)
            rows, launched, first_rows = model.num_rows, model.statistics.launched - before, [0]
        else:
            step = self._shared.step(
                [stream.model for stream in batch],
                [stream.utterance.codes for stream in batch],
                [stream.positions for stream in batch],
            )
            logits_RKV, launched, first_rows = step.logits_RKV, step.launched, step.first_rows
            rows = sum(stream.model.num_rows for stream in batch)
        return draw_all(logits_RKV, batch, first_rows), launched, rows

    def _fail(self, stream: Decoding, error: BaseException) -> None:
        with self._lock:
            stream.error = error
            self._finish(stream)

    def _finish(self, stream: Decoding) -> None:
        """Free a stream's memory and notify its reader. The caller holds the lock."""
        self._gathering.forget(stream.model)
        stream.free()
        self._streams.remove(stream)
        if stream.arrived is not None:
            stream.arrived.notify_all()
        self._ended.notify_all()


def _complete(made: Future[Result], chunk: Callable[[], Result]) -> None:
    """Run `chunk` and hand its result, or its error, to the thread that waits for `made`."""
    try:
        made.set_result(chunk())
    except BaseException as error:
        made.set_exception(error)
