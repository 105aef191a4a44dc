"""Log-mel Fréchet distance: how far the spectral statistics of two collections of audio are apart.

It is not FAD: it uses no trained model, only mean and covariance of 80 log-mel bands over all frames. It orders music
plausibly (the same soundfont is nearer than another, speech is far away) but does not measure melody or words.

Shape suffixes: L samples, T frames, M mel bands.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unimoe_runtime.audio.log_mel import log_mel

NUM_BANDS = 80
_WINDOW_S = 0.064  # the bins of a shorter window are wider than the lowest of the 80 bands
_RANGE = 60 / (10 / np.log(10))  # values more than 60 dB below a clip's loudest band count as silence


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
