"""Turns a request into prompts and limits: voices, recordings, videos, the pieces of a long text.

L samples · T frames · K codebooks
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.codec.bundle_codec import BundleCodec, Run
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import PromptError
from unimoe_runtime.frontend import FrontEnd, PreparedPrompt, SpeechOptions, VideoPrompt, VoicePrompt
from unimoe_runtime.model.delay_pattern import delay_codes
from unimoe_runtime.synthesis.decoding import Part
from unimoe_runtime.synthesis.lru_cache import LRUCache
from unimoe_runtime.synthesis.request import Limits, SynthesisRequest
from unimoe_runtime.vision.tower import BundleVision
from unimoe_runtime.vision.video import Video, read_video

# Bytes for the codes of voices that were read before.
_VOICE_BYTES = 1 << 20


class RequestReader:
    """Turns requests into the parts that are decoded. `run` is a backend's `run`."""

    def __init__(self, bundle: Bundle, frontend: FrontEnd, codec: BundleCodec, run: Run) -> None:
        self._bundle, self._frontend, self._codec, self._run = bundle, frontend, codec, run
        self._max_delay = max(bundle.model.delay_pattern)
        self._voices = LRUCache[NDArray[np.int64]](_VOICE_BYTES)

    def parts(self, request: SynthesisRequest) -> tuple[Iterator[Part], int | None]:
        """The parts to decode in order, each made on request, and the limit on the frames of all parts together.

        The first part is made now. Raises the errors of `Synthesizer.stream`.
        """
        sampling = request.sampling or self.sampling(request.task)
        limits = request.limits or Limits()
        prompts = self.prompts(request)
        first = list(islice(prompts, 2))  # the second one shows whether there are several
        most_steps = self._most_steps(limits)
        if len(first) > 1:  # the caller's limit then covers all pieces together
            limits = replace(limits, max_steps=None)
        parts = (
            Part(
                prepared=prepared,
                sampling=self._limited(prepared, sampling, limits, most_steps),
                silence_before_TK=self._silence(prepared.silence_before_s),
                silence_after_TK=self._silence(prepared.silence_after_s),
            )
            for prepared in chain(first, prompts)
        )
        most_frames = None if most_steps is None else most_steps - self._max_delay - 1
        return chain([next(parts)], parts), most_frames

    def prompts(self, request: SynthesisRequest) -> Iterator[PreparedPrompt]:
        """The prompts of a request in order, each made on request."""
        return self._frontend.prepare(
            request.task,
            request.text,
            request.voice,
            SpeechOptions(speed=request.speed, lexicon=request.lexicon or {}),
            voice_prompt=self._voice_prompt(request.voice, request.voice_text) if request.task == "speech" else None,
            video=None if request.video is None else self._video_prompt(request.video),
        )

    def read_video(self, path: Path | str, *, rate_hz: float, max_frames: int) -> Video:
        """A file's frames in the size of the vision tower."""
        return read_video(path, factor=self._vision().config.factor, rate_hz=rate_hz, max_frames=max_frames)

    def sampling(self, task: str) -> SamplingConfig:
        """The bundle's sampling for a task. Raises PromptError if it has no such task."""
        try:
            return self._bundle.sampling[task]
        except KeyError:
            known = ", ".join(sorted(self._bundle.sampling))
            raise PromptError(f"this bundle has no task {task!r}; it knows {known}") from None

    def _voice_prompt(self, voice: str, voice_text: str) -> VoicePrompt | None:
        """The codes of the recording that a voice is cloned from; None if the model knows the voice."""
        path: Path | None = Path(voice)
        if "/" not in voice and not _is_audio_file(Path(voice)):
            recording = self._frontend.recording(voice)
            if voice_text:
                raise PromptError("a voice's text goes with a recording: give an audio file as the voice")
            path, voice_text = (recording.path, recording.text) if recording else (None, "")
        if path is None:
            return None
        from unimoe_runtime.audio.files import read_voice

        max_s = self._frontend.max_voice_s
        pcm_L = read_voice(path, self._codec.sample_rate_hz, max_s=max_s or None)
        if not max_s:
            names = ", ".join(self._frontend.voices)
            raise PromptError(f"{voice}: this bundle does not clone voices; choose one of its own: {names}")
        if not voice_text.strip():
            raise PromptError(f"{voice}: to clone this voice the model needs the words of the recording (--voice-text)")
        key = blake2b(pcm_L.tobytes(), digest_size=16).digest()
        codes_TK = self._voices.get(key)
        if codes_TK is None:
            codes_TK = self._codec.encode(pcm_L).T
            self._voices.put(key, codes_TK, codes_TK.nbytes)
        return VoicePrompt(codec_rows_RK=delay_codes(codes_TK, self._bundle.model), text=voice_text)

    def _video_prompt(self, video: Video) -> VideoPrompt:
        vision = self._vision()
        return VideoPrompt(features=vision.embed(video), config=vision.config)

    def _vision(self) -> BundleVision:
        if not self._frontend.takes_video or not self._bundle.manifest.get("vision"):
            raise PromptError("this bundle has no vision tower: it makes music from a text alone")
        return BundleVision(self._bundle.manifest["vision"], self._run)

    def _silence(self, seconds: float) -> NDArray[np.int64] | None:
        """Frames of silence; None if none is requested."""
        frames = round(seconds * self._codec.sample_rate_hz / self._codec.hop_samples)
        return self._codec.encode(np.zeros(frames * self._codec.hop_samples, np.float32)).T if frames else None

    def _most_steps(self, limits: Limits) -> int | None:
        """Number of decode steps that the caller allows; None uses the bundle's limit."""
        allowed = [] if limits.max_steps is None else [limits.max_steps]
        if limits.max_s is not None:
            frames = int(limits.max_s * self._codec.sample_rate_hz / self._codec.hop_samples)
            allowed.append(max(frames, 1) + self._max_delay + 1)
        return min(allowed, default=None)

    def _limited(
        self, prepared: PreparedPrompt, sampling: SamplingConfig, limits: Limits, most_steps: int | None
    ) -> SamplingConfig:
        """`sampling` with the limits from the expected length, then with the caller's limits."""
        config = self._bundle.model
        sampling = prepared.limit(sampling, max_delay=self._max_delay)
        max_steps = sampling.max_steps if limits.max_steps is None else limits.max_steps
        if most_steps is not None:
            max_steps = min(max_steps, most_steps)
        last_position = int(prepared.prompt.first_position_B.max()) + max_steps
        if last_position > config.max_positions:
            raise PromptError(
                f"the prompt and {max_steps} steps take {last_position} positions; the model has "
                f"{config.max_positions}: give a shorter prompt or fewer steps"
            )
        min_steps = min(sampling.min_steps, max_steps) if limits.min_steps is None else limits.min_steps
        return replace(sampling, min_steps=min_steps, max_steps=max_steps)


def _is_audio_file(path: Path) -> bool:
    """Whether the suffix is that of a readable audio file."""
    if not path.suffix:
        return False
    # Imported here: the libraries that read audio take longer to import than a request without a recording needs.
    from unimoe_runtime.audio.files import READABLE

    return path.suffix.lower() in READABLE
