"""The harmonic codec's oscillator: which pitches it has, in whole steps of phase, so that every backend adds up alike.

A phase is a whole number of 2^-30 cycles: sums are exact, so a stream that is cut anywhere keeps its phase to the bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PHASE_STEPS = 1 << 30
"""Steps of a cycle."""
FINE_PITCHES = 8
"""Fine pitches of one pitch class of the decoder's head. The fewer, the more seldom rounding decides one."""
PITCH_REACH = 3
"""Pitch classes on either side of the likeliest one that take part in the mean."""
_HIGHEST_SHARE = 0.96  # harmonics end below this share of the Nyquist frequency


def pitch_table(
    *, lowest_hz: float, pitches_per_octave: int, num_pitches: int, sample_rate_hz: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Of each fine pitch: phase steps a sample, and 2 K + 1, where K harmonics lie below the Nyquist frequency."""
    num_fine = FINE_PITCHES * (num_pitches - 1) + 1
    pitch_hz = lowest_hz * 2 ** (np.arange(num_fine) / (FINE_PITCHES * pitches_per_octave))
    steps = np.round(pitch_hz / sample_rate_hz * PHASE_STEPS).astype(np.int64)
    num_harmonics = np.floor(_HIGHEST_SHARE * sample_rate_hz / 2 / pitch_hz)
    return steps, (2 * num_harmonics + 1).astype(np.float32)
