"""The harmonic codec's oscillator: its pitches in integer phase steps, so that every backend gets the same sums.

A phase is an integer number of 2^-30 cycles. Sums are exact, so the phase does not depend on a stream's chunks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PHASE_STEPS = 1 << 30
"""Phase steps per cycle."""
FINE_PITCHES = 8
"""Fine pitches per pitch class of the decoder's head. The fewer there are, the more rarely rounding changes one."""
PITCH_REACH = 3
"""Pitch classes on either side of the most likely one that take part in the mean."""
_HIGHEST_SHARE = 0.96  # harmonics end below this share of the Nyquist frequency


def pitch_table(
    *, lowest_hz: float, pitches_per_octave: int, num_pitches: int, sample_rate_hz: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each fine pitch: phase steps per sample, and 2 K + 1 for K harmonics below the Nyquist frequency."""
    num_fine = FINE_PITCHES * (num_pitches - 1) + 1
    pitch_hz = lowest_hz * 2 ** (np.arange(num_fine) / (FINE_PITCHES * pitches_per_octave))
    steps = np.round(pitch_hz / sample_rate_hz * PHASE_STEPS).astype(np.int64)
    num_harmonics = np.floor(_HIGHEST_SHARE * sample_rate_hz / 2 / pitch_hz)
    return steps, (2 * num_harmonics + 1).astype(np.float32)
