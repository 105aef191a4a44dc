"""Log-mel Fréchet distance: how far two collections of audio lie apart in the statistics of their spectra.

Not FAD: no trained model is behind it, only mean and covariance of 80 log-mel bands, frame by frame. It orders music
sensibly (the same soundfont nearer than another, speech far away) and says nothing of melody or words.

Shape suffixes: L samples, T frames, M mel bands.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unimoe_runtime.audio.log_mel import log_mel

NUM_BANDS = 80
_WINDOW_S = 0.064  # of 80 bands the lowest are narrower than the bins of a shorter window
_RANGE = 60 / (10 / np.log(10))  # 60 dB below a clip's loudest band all is silence


def log_mel_frechet(first: Sequence[np.ndarray], second: Sequence[np.ndarray], sample_rate_hz: int) -> float:
    """|m1 - m2|² + trace(C1 + C2 - 2 (C1 C2)^½) of two collections of mono clips, in squared nepers of power."""
    (mean_1, covariance_1), (mean_2, covariance_2) = (_statistics(clips, sample_rate_hz) for clips in (first, second))
    values, vectors = np.linalg.eigh(covariance_1)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariance_2 @ root), 0)).sum()
    apart = float(np.square(mean_1 - mean_2).sum() + np.trace(covariance_1 + covariance_2) - 2 * shared)
    return max(apart, 0.0)


def _statistics(clips: Sequence[np.ndarray], sample_rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    frames = [log_mel(pcm_L, sample_rate_hz, num_bands=NUM_BANDS, window_s=_WINDOW_S) for pcm_L in clips]
    all_TM = np.concatenate([np.maximum(of_clip, of_clip.max() - _RANGE) for of_clip in frames])
    return all_TM.mean(axis=0), np.atleast_2d(np.cov(all_TM, rowvar=False))
