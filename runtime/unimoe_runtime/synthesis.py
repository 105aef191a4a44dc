"""Synthesis: text in, with a voice or a video to go by, audio out, through a bundle's graphs.

L samples · K codebooks · T frames
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .audio import READABLE, read_audio
from .backends import Backend, open_backend
from .bundle import Bundle, open_bundle
from .codec import BundleCodec
from .config import SamplingConfig
from .delay import delay_codes
from .errors import BundleError, ConfigError, PromptError
from .frontend import PreparedPrompt, VideoPrompt, VoicePrompt, open_frontend
from .generation import generate
from .language_model import BundleModel, RoutingStatistics
from .video import MAX_FRAMES, RATE_HZ, Video, read_video
from .vision import BundleVision

Progress = Callable[[int, int], None]
"""Called after each step with the steps done and the steps expected."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long the audio may become, where that is not left to the bundle: decode steps, delay included, or seconds."""

    min_steps: int | None = None
    max_steps: int | None = None
    max_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("min_steps", "max_steps", "max_s"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"{name} is {value}; it must be at least 0")


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """Audio and how it came about.

    `pcm_L` float32 mono; `codes_TK` the frames it was decoded from; `caption` the request as the front end
    understood it. `ended` is False where the step limit cut the audio off before the model ended it.
    """

    pcm_L: NDArray[np.float32]
    sample_rate_hz: int
    codes_TK: NDArray[np.int64]
    caption: str
    ended: bool
    prefill_s: float
    decode_s: float
    codec_s: float
    routing: RoutingStatistics

    @property
    def audio_s(self) -> float:
        return len(self.pcm_L) / self.sample_rate_hz

    @property
    def compute_s(self) -> float:
        return self.prefill_s + self.decode_s + self.codec_s

    @property
    def rtf(self) -> float:
        """Real-time factor: compute seconds per second of audio; below 1 is faster than real time."""
        return self.compute_s / self.audio_s if self.audio_s else float("inf")

    def figures(self) -> dict[str, Any]:
        """The figures as one flat record, for printing and for JSON."""
        return {
            "caption": self.caption,
            "audio_s": self.audio_s,
            "rtf": self.rtf,
            "prefill_s": self.prefill_s,
            "decode_s": self.decode_s,
            "codec_s": self.codec_s,
            "steps": self.routing.steps,
            "experts_per_step": self.routing.experts_per_step,
            "null_share": self.routing.null_share,
            "ended": self.ended,
        }


class Synthesizer:
    """Speaks and plays from one bundle.

        with Synthesizer.open("bundle") as synthesizer:
            result = synthesizer.synthesize(task="speech", text="Hello.", voice="slt", seed=1)

    One synthesis at a time; the sessions are kept between calls.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        frontend_dir = bundle.checked_frontend()
        if frontend_dir is None or bundle.codec is None:
            part = "front end" if frontend_dir is None else "codec"
            raise BundleError(
                f"{bundle.path}: has no {part}, so it cannot synthesize; it can be verified and inspected"
            )
        self.bundle = bundle
        self.frontend = open_frontend(frontend_dir)
        self._backend = backend
        self._codec = BundleCodec(bundle.codec, backend.run)
        self._model = BundleModel(backend)

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        backend: str = "onnxruntime",
        threads: int | None = None,
        providers: Sequence[str] | None = None,
    ) -> Self:
        """Open a bundle with a backend."""
        bundle = open_bundle(path)
        return cls(bundle, open_backend(backend, bundle, threads=threads, providers=providers))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._backend.close()

    def synthesize(
        self,
        *,
        task: str,
        text: str,
        voice: str = "",
        voice_text: str = "",
        video: Video | None = None,
        seed: int = 0,
        sampling: SamplingConfig | None = None,
        limits: Limits | None = None,
        progress: Progress | None = None,
    ) -> Synthesis:
        """Synthesize one text.

        `voice` is one of `frontend.voices` (for music, an instrument), or an audio file to clone, which says
        `voice_text`; empty takes the front end's first. `video` is what to make music for (`read_video`). `sampling`
        replaces the bundle's own for this task; its limits still follow the expected length, unless `limits` says
        otherwise.
        Same bundle, text, voice, video, seed and sampling give the same audio.

        Raises PromptError where the request cannot be spoken or played, AudioError where the voice's file cannot be
        read, VideoError for frames that the vision tower cannot take, BundleError where a file of the bundle is
        damaged.
        """
        config = self.bundle.model
        sampling = sampling or self.sampling(task)
        prepared = self.prepare(task=task, text=text, voice=voice, voice_text=voice_text, video=video)
        sampling = self._limited(prepared, sampling, limits or Limits())
        expected_steps = sampling.max_steps
        if prepared.expected_frames is not None:
            expected_steps = min(expected_steps, prepared.expected_frames + max(config.delay_pattern))
        frames: list[NDArray[np.int64]] = []
        started = first_step = time.perf_counter()
        num_frames = -1
        for step in generate(self._model, prepared.prompt, config, sampling, seed=seed):
            if step.index == 0:
                first_step = time.perf_counter()
            if step.has_frame_U[0]:
                frames.append(step.frame_UK[0])
            num_frames = int(step.num_frames_U[0])
            if progress is not None:
                progress(step.index + 1, expected_steps)
        decoded = time.perf_counter()
        codes_TK = np.stack(frames) if frames else np.zeros((0, config.num_codebooks), dtype=np.int64)
        if not len(codes_TK):
            raise PromptError("the model ended before its first frame; try another seed or a longer text")
        pcm_L = self._codec.decode(codes_TK.T)
        done = time.perf_counter()
        return Synthesis(
            pcm_L=pcm_L,
            sample_rate_hz=self._codec.sample_rate_hz,
            codes_TK=codes_TK,
            caption=prepared.caption,
            ended=num_frames < sampling.max_steps - max(config.delay_pattern) - 1,
            # The first step cannot be told apart from the prefill from outside of the loop; it counts as prefill.
            prefill_s=first_step - started,
            decode_s=decoded - first_step,
            codec_s=done - decoded,
            routing=replace(self._model.statistics),
        )

    def prepare(
        self, *, task: str, text: str, voice: str = "", voice_text: str = "", video: Video | None = None
    ) -> PreparedPrompt:
        """What the model reads before it speaks or plays; arguments and errors are those of `synthesize`."""
        return self.frontend.build_prompt(
            task,
            text,
            voice,
            voice_prompt=self._voice_prompt(voice, voice_text) if task == "speech" else None,
            video=None if video is None else self._video_prompt(video),
        )

    def read_video(self, path: Path | str, *, rate_hz: float = RATE_HZ, max_frames: int = MAX_FRAMES) -> Video:
        """A file's frames in the size that the vision tower takes, `rate_hz` a second, `max_frames` at most.

        Raises VideoError where the file cannot be read, PromptError where the bundle has no vision tower.
        """
        return read_video(path, factor=self._vision().config.factor, rate_hz=rate_hz, max_frames=max_frames)

    def sampling(self, task: str) -> SamplingConfig:
        """The bundle's own sampling for a task. Raises PromptError where it has no such task."""
        try:
            return self.bundle.sampling[task]
        except KeyError:
            known = ", ".join(sorted(self.bundle.sampling))
            raise PromptError(f"this bundle has no task {task!r}; it knows {known}") from None

    def _voice_prompt(self, voice: str, voice_text: str) -> VoicePrompt | None:
        """The recording that a voice is cloned from, through the codec; None where the model knows the voice."""
        path: Path | None = Path(voice)
        if Path(voice).suffix.lower() not in READABLE and "/" not in voice:
            recording = self.frontend.recording(voice)
            if voice_text:
                raise PromptError("a voice's text goes with a recording: give an audio file as the voice")
            path, voice_text = (recording.path, recording.text) if recording else (None, "")
        if path is None:
            return None
        max_s = self.frontend.max_voice_s
        pcm_L = read_audio(path, self._codec.sample_rate_hz, max_s=max_s or None)
        if not max_s:
            names = ", ".join(self.frontend.voices)
            raise PromptError(f"{voice}: this bundle does not clone voices; choose one of its own: {names}")
        if not voice_text.strip():
            raise PromptError(f"{voice}: to clone this voice the model needs the words of the recording (--voice-text)")
        codes_TK = self._codec.encode(pcm_L).T
        return VoicePrompt(codec_rows_RK=delay_codes(codes_TK, self.bundle.model), text=voice_text)

    def _video_prompt(self, video: Video) -> VideoPrompt:
        vision = self._vision()
        return VideoPrompt(features=vision.embed(video), config=vision.config)

    def _vision(self) -> BundleVision:
        if not self.frontend.takes_video or not self.bundle.manifest.get("vision"):
            raise PromptError("this bundle has no vision tower: it makes music from a text alone")
        return BundleVision(self.bundle.manifest["vision"], self._backend.run)

    def _limited(self, prepared: PreparedPrompt, sampling: SamplingConfig, limits: Limits) -> SamplingConfig:
        """`sampling` with the limits of the expected length and then the caller's."""
        config = self.bundle.model
        max_delay = max(config.delay_pattern)
        sampling = prepared.limit(sampling, max_delay=max_delay)
        max_steps = sampling.max_steps if limits.max_steps is None else limits.max_steps
        if limits.max_s is not None:
            frames = int(limits.max_s * self._codec.sample_rate_hz / self._codec.hop_samples)
            max_steps = min(max_steps, max(frames, 1) + max_delay + 1)
        min_steps = min(sampling.min_steps, max_steps) if limits.min_steps is None else limits.min_steps
        last_position = int(prepared.prompt.first_position_B.max()) + max_steps
        if last_position > config.max_positions:
            raise PromptError(
                f"the prompt and {max_steps} steps take {last_position} positions; the model has "
                f"{config.max_positions}: give a shorter prompt or fewer steps"
            )
        return replace(sampling, min_steps=min_steps, max_steps=max_steps)
