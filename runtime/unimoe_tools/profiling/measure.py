"""Measuring one setting in this process: open, load, make a recorded request.

U utterances · K codebooks · T frames · L samples
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.codec.bundle_codec import BundleCodec, StreamingDecoder
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import ConfigError, PromptError
from unimoe_runtime.model.generation import Prompt, generate
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer
from unimoe_tools.profiling.breakdown import Breakdown, Routing, break_down
from unimoe_tools.profiling.machine import Energy, Memory, read_memory, settle
from unimoe_tools.profiling.recorder import Marks, Part, RecordedModel, Recorder, code
from unimoe_tools.profiling.workload import ProfileRequest, Setting, batched, forced, random_prompt, random_sampling

_MEMORY_EVERY_STEPS = 16
# Steps of a turn where two bundles alternate. Few, so that both see the same noise and drift of the machine, which last
# some hundred milliseconds.
STEPS_A_TURN = 5
_CODEC, _HOST, _PROFILER, _END = map(code, (Part.CODEC, Part.HOST, Part.PROFILER, Part.END))


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One chunk of one utterance's audio. `ready_ms` counts from the request."""

    utterance: int
    step: int
    frames: int
    samples: int
    ready_ms: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Generation:
    """One measured request.

    `prepare_ms`: text to prompt, including the codec's encoder or the vision tower where needed. `wall_ms`: by a
    separate clock, from the start of the prefill to the last sample. `memory`: readings at seconds of perf_counter.
    """

    request: ProfileRequest
    caption: str
    num_rows: int
    prompt_tokens: int
    prepare_ms: float
    breakdown: Breakdown
    routing: Routing
    marks: Marks
    wall_ms: float
    num_frames_U: tuple[int, ...]
    chunks: tuple[Chunk, ...]
    memory: tuple[tuple[float, Memory], ...]
    energy_j: float | None

    @property
    def num_steps(self) -> int:
        return len(self.breakdown.parts_SP)

    @property
    def measured_ms(self) -> float:
        """The wall time without the profiler's own work."""
        return self.wall_ms - float(self.breakdown.parts_SP[:, Part.PROFILER].sum())

    @property
    def decode_window_ns(self) -> tuple[int, int]:
        """From the first step to the end, on the clock of the marks."""
        first = int(np.argmax(self.marks.begins_M))
        return int(self.marks.start_ns_M[first]), int(self.marks.start_ns_M[-1])

    @property
    def coverage(self) -> float:
        """The parts' sum over the wall time."""
        return (self.breakdown.prefill_ms + self.breakdown.decode_ms) / self.measured_ms


@dataclass(kw_only=True)
class _Stream:
    """One utterance's growing audio, cut into chunks of the schedule's sizes."""

    index: int
    sizes: Iterator[int]
    decoder: StreamingDecoder | None
    waiting: list[NDArray[np.int64]] = field(default_factory=list)
    num_frames: int = 0

    def __post_init__(self) -> None:
        self.size = next(self.sizes)

    def decode(self, *, last: bool) -> tuple[int, int]:
        """Decode the pending chunk. Returns its frames and samples."""
        frames, samples = len(self.waiting), 0
        if self.decoder is not None:
            if frames:
                samples = len(self.decoder.push(np.stack(self.waiting, axis=1)))
            if last:
                samples += len(self.decoder.finish())
        self.waiting.clear()
        self.size = next(self.sizes)
        return frames, samples


class Meter:
    """A bundle opened by a setting, with its graphs loaded. `load_ms`: the time for that, by stage.

    `kernel_folder`: the backend's own profiler writes there, one file for each graph.
    """

    def __init__(self, setting: Setting, *, kernel_folder: Path | None = None) -> None:
        start = time.perf_counter()
        self.setting = setting
        self._made: dict[ProfileRequest, tuple[int, int]] = {}  # number of times, and number of steps
        self.bundle = open_bundle(setting.bundle)
        self.backend = _open_backend(self.bundle, setting, kernel_folder)
        self._codec = None if self.bundle.codec is None else BundleCodec(self.bundle.codec, self.backend.run)
        self._synthesizer = None
        if self.bundle.frontend_dir is not None and self._codec is not None:
            self._synthesizer = Synthesizer(self.bundle, self.backend)
        opened = time.perf_counter()
        self.backend.load()
        loaded = time.perf_counter()
        self.load_ms = {"open": 1e3 * (opened - start), "graphs": 1e3 * (loaded - opened)}

    def close(self) -> None:
        self.backend.close()

    def measure(self, request: ProfileRequest) -> Generation:
        """Make one recorded request. Raises PromptError where the model produces no audio."""
        turns = self.turns(request, steps_a_turn=None)
        while True:
            try:
                next(turns)
            except StopIteration as end:
                generation: Generation = end.value
                return generation

    def turns(
        self, request: ProfileRequest, *, steps_a_turn: int | None = STEPS_A_TURN
    ) -> Generator[None, None, Generation]:
        """The same with a pause after every few steps, for the other side's turn; all figures exclude the pauses."""
        config = self.bundle.model
        settle()
        energy = Energy()
        start = time.perf_counter()
        prompt, sampling, caption = self._prepare(request)
        prepare_ms = 1e3 * (time.perf_counter() - start)
        recorder = Recorder()
        # Each repetition of a request records different steps call by call.
        times, num_steps = self._made.get(request, (0, 1))
        every = 1 if self.setting.kernels else self.setting.every
        model = RecordedModel(self.backend, recorder, every=every, phase=times % min(every, num_steps))
        mark = recorder.mark
        streams = [
            _Stream(
                index=index,
                sizes=self.setting.chunk_sizes(),
                decoder=None if self._codec is None else self._codec.stream(),
            )
            for index in range(prompt.num_utterances)
        ]
        chunks: list[Chunk] = []
        memory: list[tuple[float, Memory]] = []

        rested_ns, wall_ns = 0, time.perf_counter_ns()

        def since_request_ms() -> float:
            return prepare_ms + (time.perf_counter_ns() - wall_ns - rested_ns) / 1e6

        def emit(stream: _Stream, step: int, *, last: bool) -> None:
            mark(_CODEC)
            frames, samples = stream.decode(last=last)
            mark(_HOST)
            at_ms = since_request_ms()
            chunks.append(Chunk(utterance=stream.index, step=step, frames=frames, samples=samples, ready_ms=at_ms))

        for step in generate(model, prompt, config, sampling, seed=request.seed):
            mark(_HOST)
            for stream in streams:
                if step.has_frame_U[stream.index]:
                    stream.waiting.append(step.frame_UK[stream.index])
                    stream.num_frames += 1
                    if len(stream.waiting) == stream.size:
                        emit(stream, step.index, last=False)
            if step.index % _MEMORY_EVERY_STEPS == 0:
                mark(_PROFILER)
                if found := read_memory():
                    memory.append((time.perf_counter(), found))
                mark(_HOST)
            if steps_a_turn is not None and step.index % steps_a_turn == steps_a_turn - 1:
                mark(_PROFILER)
                rest_ns = time.perf_counter_ns()
                if self.setting.threads != 1:
                    settle()
                yield
                rested_ns += time.perf_counter_ns() - rest_ns
                mark(_HOST)
        for stream in streams:
            if stream.num_frames:
                emit(stream, step.index, last=True)
        mark(_END)
        wall_ns = time.perf_counter_ns() - wall_ns
        energy_j = energy.joules()
        if not chunks:
            raise PromptError("the model ended before its first frame; try another seed or a longer text")
        marks = recorder.marks()
        self._made[request] = times + 1, step.index + 1
        return Generation(
            request=request,
            caption=caption,
            num_rows=prompt.num_rows,
            prompt_tokens=prompt.text_ids_BT.shape[1],
            prepare_ms=prepare_ms,
            breakdown=break_down(marks, config),
            routing=Routing.from_marks(marks, recorder.picks(), config, num_rows=prompt.num_rows),
            marks=marks,
            wall_ms=wall_ns / 1e6,
            num_frames_U=tuple(stream.num_frames for stream in streams),
            chunks=tuple(chunks),
            memory=tuple(memory),
            energy_j=energy_j,
        )

    def _prepare(self, request: ProfileRequest) -> tuple[Prompt, SamplingConfig, str]:
        """The prompt of all rows, its sampling, and its caption."""
        config, setting = self.bundle.model, self.setting
        if self._synthesizer is None:
            prompt, caption = random_prompt(config, setting.rows, request.seed), "random text ids"
            sampling = random_sampling(prompt.paired, config)
        else:
            asked = SynthesisRequest(
                task=request.task, text=request.text, voice=request.voice, voice_text=request.voice_text
            )
            prepared = self._synthesizer.prepare(asked)
            prompt, caption = batched(prepared.prompt, setting.rows), prepared.caption
            sampling = prepared.limit(self._synthesizer.sampling(request.task), max(config.delay_pattern))
        if setting.steps is not None:
            sampling = forced(sampling, setting.steps, config)
        return prompt, sampling, caption


def _open_backend(bundle: Bundle, setting: Setting, kernel_folder: Path | None) -> Backend:
    if kernel_folder is None:
        return open_backend(
            setting.backend, bundle, threads=setting.threads, providers=setting.providers, target=setting.target,
            memory_budget_bytes=setting.memory_budget_bytes,
        )  # fmt: skip
    if setting.backend != "onnxruntime":
        raise ConfigError(f"the backend {setting.backend} has no profiler of its own: leave the kernels out")
    if setting.memory_budget_bytes is not None:
        raise ConfigError("experts that come and go cannot be profiled kernel by kernel: leave the kernels out")
    from unimoe_runtime.backends.onnxruntime.backend import OnnxRuntimeBackend

    return OnnxRuntimeBackend(
        bundle, threads=setting.threads, providers=setting.providers, profile_folder=kernel_folder
    )
