"""One stream's decoding: its prompts, the current utterance, and the frames made so far.

The scheduler's thread reads prompts and makes steps; the reader's thread takes frames. The scheduler's lock guards
their shared state.

T frames · K codebooks · B model rows
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.frontend import PreparedPrompt
from unimoe_runtime.frontend.prepared import WordTime
from unimoe_runtime.model.generation import Utterance, require_pairs
from unimoe_runtime.model.sampling import RandomSteps
from unimoe_runtime.synthesis.language_model import BundleModel, Reading
from unimoe_runtime.synthesis.prompt_pass import piece_length
from unimoe_runtime.synthesis.routing_counts import RoutingCounts

Progress = Callable[[int, int], None]
"""Called after each step with the steps done and the steps expected, in the thread that makes the steps, so it should
return quickly. An exception ends the stream."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A prompt and its decoding settings. `silence_before_TK`, `silence_after_TK`: frames of silence, if requested."""

    prepared: PreparedPrompt
    sampling: SamplingConfig
    silence_before_TK: NDArray[np.int64] | None = None
    silence_after_TK: NDArray[np.int64] | None = None

    def expected_steps(self, max_delay: int) -> int:
        expected = self.prepared.expected_frames
        return self.sampling.max_steps if expected is None else min(self.sampling.max_steps, expected + max_delay)


@dataclass(frozen=True, kw_only=True)
class DecodingLimits:
    """Limits at which a stream ends: `most_frames` over all parts, and `timeout_s` after `requested`, a time of
    `time.perf_counter`."""

    requested: float
    most_frames: int | None = None
    timeout_s: float | None = None


class Decoding:
    """A stream as the scheduler sees it.

    `target` is the number of frames that its reader waits for until `deadline`; no step goes beyond it. If it `rides`,
    its reader does not wait yet.
    """

    def __init__(
        self,
        model: BundleModel,
        parts: Iterable[Part],
        *,
        seed: int,
        limits: DecodingLimits,
        progress: Progress | None = None,
    ) -> None:
        self.model, self._seed, self.limits, self._progress = model, seed, limits, progress
        self._coming = iter(parts)
        self._part: Part | None = None
        self._following: Part | None = next(self._coming)
        self.max_delay = max(model.config.delay_pattern)
        self.captions: list[str] = []
        """The text as it is spoken, as far as it has been read."""
        self.warnings: tuple[str, ...] = ()
        """Warnings about parts of the text that were left out, as far as it has been read."""
        self.words: list[tuple[int, tuple[WordTime, ...]]] = []
        """For each part that has begun: its first frame, and its words with times from there."""
        self.prompt_tokens = 0
        """Number of tokens of the prompts that have been read, without unconditional rows."""
        self.expected_steps = 0
        self._note(self._following)
        self.lane = 0
        """Index of its scheduler among those of the synthesizer."""
        self.target, self.deadline, self.rides = 0, math.inf, False
        self.arrived: threading.Condition | None = None
        """Its reader waits on this for frames; notified once they are there, or the stream is over."""
        self.frames: list[list[int]] = []
        self.num_frames = -1
        """Number of frames of the whole stream; -1 until it is known."""
        self.cut = self.timed_out = self.cancelled = self.over = self.freed = False
        self.error: BaseException | None = None
        self.prefill_s = self.decode_s = 0.0
        self._past = RoutingCounts()
        self._frames_before = self._steps_done = 0
        self.reading: Reading | None = None
        self.positions_left, self._is_read_from = 0, False
        self.paired = False
        self._began = self.last_step = time.perf_counter()

    @property
    def is_wanted(self) -> bool:
        return not self.over and len(self.frames) < self.target

    @property
    def routing(self) -> RoutingCounts:
        return self._past + (self.model.statistics if self._part is not None else RoutingCounts())

    @property
    def num_rows(self) -> int:
        return 1 + self.paired

    @property
    def steps_left(self) -> int:
        """Estimated number of steps until the reader has its frames."""
        ahead = max(0, self.max_delay - self.utterance.index) if self._part is not None else self.max_delay
        return min(self.target, self.expected_steps) - len(self.frames) + ahead

    @property
    def positions(self) -> NDArray[np.float32]:
        """position_B of the next step."""
        first: NDArray[np.float32] = self._first_position_B
        return first + np.float32(self.utterance.index)

    @property
    def allow_eos(self) -> bool:
        return self.utterance.index >= self.sampling.min_steps

    def begin(self) -> None:
        """Begin with the first part's prompt."""
        self._began = time.perf_counter()
        self._next_part()

    def read(self, num_positions: int) -> int:
        """Read about `num_positions` positions of the prompt; returns the number read."""
        assert self.reading is not None
        if not self._is_read_from:
            self._is_read_from, self.positions_left = True, next(self.reading)
        read = piece_length(num_positions, self.positions_left)
        try:
            self.positions_left = self.reading.send(num_positions)
        except StopIteration:
            self.reading, self.positions_left = None, 0
        return read

    def check(self, now: float) -> None:
        """End the stream if it was cancelled or its time has passed."""
        timeout_s = self.limits.timeout_s
        if self.cancelled:
            self.over = True
        elif timeout_s is not None and now - self.limits.requested > timeout_s:
            self.timed_out = self.over = True

    def accept(self, codes: list[int], step_s: float) -> None:
        """Take the codes that a step of `step_s` drew."""
        utterance, now = self.utterance, time.perf_counter()
        self.last_step = now
        if utterance.index == 0:  # counted as part of the prefill, because it gives its first result
            self.prefill_s += now - self._began
        else:
            self.decode_s += step_s
        frame = utterance.accept(codes)
        if utterance.num_frames >= 0:
            self.cut |= utterance.num_frames == self.sampling.max_steps - self.max_delay - 1
            self.num_frames = -1 if self._following else self._frames_before + utterance.num_frames
        if frame is not None:
            self.frames.append(frame)
        self._steps_done = self._past.steps + utterance.index
        self.check(now)
        if utterance.ended and not self.over:
            if self._following is None or self._room() == 0:
                silent = self._fall_silent(self._part.silence_after_TK if self._part is not None else None)
                if self.num_frames >= 0:
                    self.num_frames += silent
                self.over = True
            else:
                self._next_part()

    def report(self) -> None:
        """Call the caller's callback after the step."""
        if self._progress is not None:
            self._progress(self._steps_done, self.expected_steps)

    def free(self) -> None:
        """Give the model's cache back and mark the stream as over."""
        self.over = self.freed = True
        if self.reading is not None:
            self.reading.close()
        self.model.close()

    def _next_part(self) -> None:
        if self._part is not None:
            if self.model.settle is not None:
                self.model.settle()
            self._past, self.model.statistics = self._past + self.model.statistics, RoutingCounts()
            self._began = time.perf_counter()
            assert self._following is not None
            self._note(self._following)
            self._fall_silent(self._part.silence_after_TK)
        part = self._part = self._following
        assert part is not None
        self._fall_silent(part.silence_before_TK)
        self.words.append((len(self.frames), part.prepared.words))
        require_pairs(part.prepared.prompt, part.sampling)
        self._following = next(self._coming, None)
        room = self._room()
        sampling = part.sampling
        if room is not None:
            max_steps = min(sampling.max_steps, room + self.max_delay + 1)
            sampling = replace(sampling, min_steps=min(sampling.min_steps, max_steps), max_steps=max_steps)
        self.sampling = sampling
        self._frames_before = len(self.frames)
        prompt = part.prepared.prompt
        self.paired = prompt.paired
        self.draws_by = (
            prompt.paired, sampling.guidance_scale, sampling.temperature, sampling.top_k, sampling.top_p,
            sampling.eos_factor,
        )  # fmt: skip
        """The settings that determine a draw. Streams with equal settings draw together."""
        self._first_position_B = prompt.first_position_B
        self.utterance = Utterance(self.model.config, sampling)
        self.random = RandomSteps(np.random.default_rng(self._seed), self.model.config.num_codebooks)
        self.reading = self.model.read(prompt)
        self._is_read_from, self.positions_left = False, prompt.text_ids_BT.shape[1]

    def _note(self, part: Part) -> None:
        prepared = part.prepared
        self.captions.append(prepared.caption)
        self.warnings = prepared.warnings or self.warnings
        self.prompt_tokens += int(prepared.prompt.mask_BT[-1].sum())
        self.expected_steps += part.expected_steps(self.max_delay)

    def _fall_silent(self, silence_TK: NDArray[np.int64] | None) -> int:
        """Add frames of silence, as many as the caller's limit leaves room for. Returns how many."""
        added = [] if silence_TK is None else silence_TK[: self._room()].tolist()
        self.frames += added
        return len(added)

    def _room(self) -> int | None:
        """Number of frames left under the caller's limit; None without a limit."""
        most = self.limits.most_frames
        return None if most is None else max(0, most - len(self.frames))
