"""Notes heard in audio: the YIN pitch tracker (de Cheveigné and Kawahara 2002) and a score for melodies.

Shapes: L samples, T frames, N window, W lags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unimoe.data.melodies import Note

LOWEST_HZ = 100.0
HIGHEST_HZ = 1200.0
_THRESHOLD = 0.15
_UNVOICED_ABOVE = 0.45
_SILENCE_RMS = 1e-3


def yin(pcm_L: np.ndarray, sample_rate_hz: int, *, hop_s: float = 0.02) -> np.ndarray:
    """Fundamental frequency in Hz every `hop_s`, pitch_T; NaN without pitch. Frames are centred on t hop_s.

    The search takes the first dip below 0.15 of the cumulative mean normalized difference (Eq. 8). Without one,
    it takes the lowest point, if that is below 0.45. A parabola refines the dip (step 5).
    """
    longest = int(sample_rate_hz / LOWEST_HZ)
    shortest = int(sample_rate_hz / HIGHEST_HZ)
    hop = round(hop_s * sample_rate_hz)
    window = 2 * longest + 2  # the difference at the longest lag then still sums over as many samples as that lag
    padded_L = np.pad(np.asarray(pcm_L, np.float64), window // 2)
    frames_TN = np.lib.stride_tricks.sliding_window_view(padded_L, window)[::hop]
    half = window - longest - 1
    # d(lag) = sum over j < half of (x[j] - x[j + lag])^2 = energy(0) + energy(lag) - 2 correlation(lag)
    size = 1 << (window + half - 1).bit_length()
    spectrum = np.fft.rfft(frames_TN, size) * np.fft.rfft(frames_TN[:, :half], size).conj()
    correlation_TW = np.fft.irfft(spectrum, size)[:, : longest + 2]
    energy_TN = np.cumsum(np.pad(frames_TN**2, ((0, 0), (1, 0))), axis=1)
    energy_TW = energy_TN[:, half : half + longest + 2] - energy_TN[:, : longest + 2]
    difference_TW = np.maximum(energy_TW[:, :1] + energy_TW - 2 * correlation_TW, 0)
    mean_TW = np.cumsum(difference_TW[:, 1:], axis=1) / np.arange(1, longest + 2)
    normalized_TW = np.ones_like(difference_TW)
    np.divide(difference_TW[:, 1:], mean_TW, out=normalized_TW[:, 1:], where=mean_TW > 0)
    loud_T = np.sqrt(np.mean(frames_TN**2, axis=1)) > _SILENCE_RMS
    lags_T = np.array([_lag(row, shortest, longest) for row in normalized_TW])
    return np.where(loud_T & (lags_T > 0), sample_rate_hz / np.where(lags_T > 0, lags_T, 1), np.nan)


def _lag(normalized_W: np.ndarray, shortest: int, longest: int) -> float:
    """The period in samples, or 0 where there is none."""
    searched = normalized_W[shortest : longest + 1]
    below = np.flatnonzero(searched < _THRESHOLD)
    lag = shortest + int(below[0] if len(below) else searched.argmin())
    while lag < longest and normalized_W[lag + 1] < normalized_W[lag]:
        lag += 1
    if normalized_W[lag] > _UNVOICED_ABOVE:
        return 0.0
    before, at, after = normalized_W[lag - 1 : lag + 2]
    curvature = before - 2 * at + after
    return lag + (0.5 * (before - after) / curvature if curvature > 0 else 0.0)


def heard_pitch(pitch_T: np.ndarray, hop_s: float, start_s: float, end_s: float) -> float | None:
    """Median MIDI pitch (fractional) in the middle of a note, or None where less than a third of it has a pitch."""
    margin_s = 0.2 * (end_s - start_s)
    inside_T = pitch_T[round((start_s + margin_s) / hop_s) : max(1, round((end_s - margin_s) / hop_s))]
    voiced_T = inside_T[~np.isnan(inside_T)]
    if len(voiced_T) == 0 or 3 * len(voiced_T) < len(inside_T):
        return None
    return float(np.median(69 + 12 * np.log2(voiced_T / 440)))


@dataclass(frozen=True, kw_only=True)
class NoteScore:
    """How many notes are heard at the written pitch, exactly or up to octaves."""

    exact: int
    up_to_octave: int
    total: int

    def __add__(self, other: NoteScore) -> NoteScore:
        return NoteScore(
            exact=self.exact + other.exact,
            up_to_octave=self.up_to_octave + other.up_to_octave,
            total=self.total + other.total,
        )

    @property
    def exact_share(self) -> float:
        return self.exact / max(1, self.total)

    @property
    def octave_share(self) -> float:
        return self.up_to_octave / max(1, self.total)


NO_NOTES = NoteScore(exact=0, up_to_octave=0, total=0)


def score_notes(pcm_L: np.ndarray, sample_rate_hz: int, notes: Sequence[Note]) -> NoteScore:
    """Compare the pitch heard in the middle of each written note with the note, to the nearest semitone."""
    hop_s = 0.02
    pitch_T = yin(pcm_L, sample_rate_hz, hop_s=hop_s)
    exact = up_to_octave = 0
    for note in notes:
        heard = heard_pitch(pitch_T, hop_s, note.start_s, note.end_s)
        if heard is None:
            continue
        off = round(heard) - note.pitch
        exact += off == 0
        up_to_octave += off % 12 == 0
    return NoteScore(exact=exact, up_to_octave=up_to_octave, total=len(notes))
