"""Scales clips to the same loudness.

Shapes: L samples.
"""

from __future__ import annotations

from typing import Final

import numpy as np

TARGET_RMS: Final = 0.08
PEAK_LIMIT: Final = 0.9


def normalise_loudness(pcm_L: np.ndarray) -> np.ndarray:
    """Scale a clip to a root mean square of 0.08, or less where its peak would exceed 0.9."""
    rms, peak = float(np.sqrt(np.mean(pcm_L**2))), float(np.abs(pcm_L).max())
    if peak == 0:
        return pcm_L
    return pcm_L * min(TARGET_RMS / rms, PEAK_LIMIT / peak)
