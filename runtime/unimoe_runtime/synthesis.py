"""Synthesis: text in, audio out, through a bundle's graphs.

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

from .audio import FORMATS, read_audio
from .backends import Backend, open_backend
from .bundle import Bundle, open_bundle
from .codec import BundleCodec
from .config import SamplingConfig
from .errors import BundleError, PromptError
from .frontend import open_frontend
from .generation import generate
from .language_model import BundleModel, RoutingStatistics

Progress = Callable[[int, int], None]
"""Called after each step with the steps done and the steps expected."""


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
        seed: int = 0,
        sampling: SamplingConfig | None = None,
        progress: Progress | None = None,
    ) -> Synthesis:
        """Synthesize one text.

        `voice` is one of `frontend.voices` (for music, an instrument); empty takes the front end's first.
        `sampling` replaces the bundle's own for this task; its limits still follow the expected length.
        Same bundle, text, voice, seed and sampling give the same audio.

        Raises PromptError where the text or voice cannot be spoken, BundleError where a file is damaged.
        """
        self._refuse_voice_file(voice)
        config = self.bundle.model
        prepared = self.frontend.build_prompt(task, text, voice)
        sampling = prepared.limit(sampling or self.sampling(task), max_delay=max(config.delay_pattern))
        expected_steps = sampling.max_steps
        if prepared.expected_frames is not None:
            expected_steps = prepared.expected_frames + max(config.delay_pattern)
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

    def sampling(self, task: str) -> SamplingConfig:
        """The bundle's own sampling for a task. Raises PromptError where it has no such task."""
        try:
            return self.bundle.sampling[task]
        except KeyError:
            known = ", ".join(sorted(self.bundle.sampling))
            raise PromptError(f"this bundle has no task {task!r}; it knows {known}") from None

    def _refuse_voice_file(self, voice: str) -> None:
        """A voice given as a file would be cloned; say first whether it is audio at all."""
        if Path(voice).suffix.lower() in FORMATS or "/" in voice:
            read_audio(voice, self._codec.sample_rate_hz)
            names = ", ".join(self.frontend.voices)
            raise PromptError(f"{voice}: this bundle does not clone voices; choose one of its own: {names}")
