"""Whose voice is it: the nearest of the known voices by mean spectrum and pitch.

Shapes: L samples, T frames, N window, M bands, F features.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from unimoe.evaluation.pitch import yin

_WINDOW = 512
_HOP = 256
_NUM_BANDS = 24
_FLOOR = 1e-5


def voice_features(pcm_L: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Mean and spread of band levels over the louder half of a clip, and the median log pitch: features_F."""
    frames_TN = np.lib.stride_tricks.sliding_window_view(pcm_L, _WINDOW)[::_HOP] * np.hanning(_WINDOW)
    power = np.abs(np.fft.rfft(frames_TN)) ** 2
    edges = np.geomspace(2, power.shape[1] - 1, _NUM_BANDS + 1).astype(int)
    bands = [power[:, low : max(low + 1, high)].mean(axis=1) for low, high in itertools.pairwise(edges)]
    levels_TM = np.log(np.stack(bands, axis=1) + _FLOOR)
    loudness_T = levels_TM.mean(axis=1)
    loud_TM = levels_TM[loudness_T >= np.median(loudness_T)]
    loud_TM = loud_TM - loud_TM.mean()  # a clip's level says nothing of its speaker
    pitch_T = yin(pcm_L, sample_rate_hz)
    voiced_T = pitch_T[~np.isnan(pitch_T)]
    pitch = float(np.median(np.log(voiced_T))) if len(voiced_T) else 0.0
    return np.concatenate([loud_TM.mean(axis=0), loud_TM.std(axis=0), [pitch]])


@dataclass(frozen=True, kw_only=True)
class VoiceRecognizer:
    """Linear discriminant analysis: the voice whose mean is nearest under the common covariance."""

    names: tuple[str, ...]
    means_VF: np.ndarray
    whitening_FF: np.ndarray
    sample_rate_hz: int

    @classmethod
    def learn(cls, clips: Mapping[str, Sequence[np.ndarray]], sample_rate_hz: int) -> Self:
        """From clips of each voice."""
        features = {
            name: np.stack([voice_features(pcm_L, sample_rate_hz) for pcm_L in of]) for name, of in clips.items()
        }
        spread = np.concatenate([rows - rows.mean(axis=0) for rows in features.values()])
        covariance_FF = spread.T @ spread / len(spread)
        # A little of the diagonal keeps the inverse steady with few clips.
        covariance_FF += 0.1 * np.diag(np.diag(covariance_FF)) + 1e-6 * np.eye(len(covariance_FF))
        return cls(
            names=tuple(features),
            means_VF=np.stack([rows.mean(axis=0) for rows in features.values()]),
            whitening_FF=np.linalg.cholesky(np.linalg.inv(covariance_FF)),
            sample_rate_hz=sample_rate_hz,
        )

    def __call__(self, pcm_L: np.ndarray) -> str:
        """Name of the nearest voice."""
        away_VF = (self.means_VF - voice_features(pcm_L, self.sample_rate_hz)) @ self.whitening_FF
        return self.names[int((away_VF**2).sum(axis=1).argmin())]
