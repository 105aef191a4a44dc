"""Transcribes simultaneous notes, which a monophonic pitch tracker cannot follow: Basic Pitch (Bittner et al. 2022).

The network lies in a package of the registry, which is read but never imported: `pip install --no-deps basic-pitch`.

Shape suffixes: L samples, T frames, P keys of a piano (27.5 Hz upwards).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import soxr

from unimoe.data.melodies import Note
from unimoe.evaluation.installed import file_of

_RATE_HZ: Final = 22050
_HOP: Final = 256
_WINDOW: Final = 2 * _RATE_HZ - _HOP
_EDGE: Final = 15  # frames at both ends of a window that the neighbouring windows provide
_SOUNDS_ABOVE: Final = 0.3  # the network's own threshold
_LOWEST_KEY: Final = 21
_NUM_KEYS: Final = 88


@dataclass(frozen=True, kw_only=True)
class FrameScore:
    """Counts of (key, frame) pairs, frames of 12 ms: both written and heard, only heard, only written."""

    both: int
    only_heard: int
    only_written: int

    def __add__(self, other: FrameScore) -> FrameScore:
        return FrameScore(
            both=self.both + other.both,
            only_heard=self.only_heard + other.only_heard,
            only_written=self.only_written + other.only_written,
        )

    @property
    def f1(self) -> float:
        return 2 * self.both / max(1, 2 * self.both + self.only_heard + self.only_written)

    @property
    def recall(self) -> float:
        """Share of the written pairs that are heard."""
        return self.both / max(1, self.both + self.only_written)

    def rates(self) -> dict[str, float]:
        return {"f1": round(self.f1, 4), "recall": round(self.recall, 4)}


NO_FRAMES = FrameScore(both=0, only_heard=0, only_written=0)


class Transcriber:
    """Hears which piano keys sound in each frame. Raises Unmeasured where its package is missing."""

    def __init__(self) -> None:
        from unimoe_runtime.backends.onnxruntime.sessions import open_session

        self._session: Any = open_session(file_of("basic_pitch", "saved_models/icassp_2022/nmp.onnx"))

    def __call__(self, pcm_L: np.ndarray, sample_rate_hz: int) -> np.ndarray:
        """Which keys sound, sounds_TP, in frames of 256 / 22,050 s."""
        audio_L = np.asarray(soxr.resample(np.asarray(pcm_L, np.float32), sample_rate_hz, _RATE_HZ), np.float32)
        num_frames = len(audio_L) // _HOP + 1
        audio_L = np.pad(audio_L, (_EDGE * _HOP, _WINDOW))
        step = _WINDOW - 2 * _EDGE * _HOP
        parts = []
        for start in range(0, num_frames * _HOP, step):
            window_L = audio_L[start : start + _WINDOW]
            (sounds_1TP,) = self._session.run(
                ["StatefulPartitionedCall:1"], {"serving_default_input_2:0": window_L[None, :, None]}
            )
            parts.append(sounds_1TP[0, _EDGE : _EDGE + step // _HOP])
        return np.asarray(np.concatenate(parts)[:num_frames] > _SOUNDS_ABOVE)


def score_frames(sounds_TP: np.ndarray, notes: Sequence[Note]) -> FrameScore:
    """Compare the keys heard in each frame with the written notes. Missing frames at the end count as silent."""

    def frame(time_s: float) -> int:
        return round(time_s * _RATE_HZ / _HOP)

    num_frames = max([len(sounds_TP), *(frame(note.end_s) for note in notes)])
    heard_TP, written_TP = (np.zeros((num_frames, _NUM_KEYS), bool) for _ in range(2))
    heard_TP[: len(sounds_TP)] = sounds_TP
    for note in notes:
        written_TP[frame(note.start_s) : frame(note.end_s), note.pitch - _LOWEST_KEY] = True
    return FrameScore(
        both=int((heard_TP & written_TP).sum()),
        only_heard=int((heard_TP & ~written_TP).sum()),
        only_written=int((~heard_TP & written_TP).sum()),
    )
