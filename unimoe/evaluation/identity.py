"""Recognises the voice or the instrument of a clip: the nearest known source by mean spectrum (and pitch).

This is a simple measure: it tells the corpus's voices and instruments apart, but not how similar two of them sound.
Its score on original recordings is its ceiling. Print that beside it.

Shape suffixes: L samples, T frames, M mel bands, D features, S sources (voices or instruments), C clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unimoe.evaluation.pitch import yin
from unimoe_runtime.audio.log_mel import log_mel

_QUIETEST_DB = 35.0  # frames more than this below the loudest are pauses
_RANGE_DB = 60.0  # bands more than this below a clip's loudest hold codec noise: they are raised to this level
_NEPERS_PER_DB = np.log(10) / 10
_SHRINKAGE = 0.3  # towards features without covariance, because there are few clips for each feature
_SMALLEST_VARIANCE = 1e-6

Features = Callable[[np.ndarray, int], np.ndarray]
"""(pcm_L, sample_rate_hz) -> features_D."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Identifier:
    """Mean features of each source, and the inverse of their shrunk covariance within a source."""

    names: tuple[str, ...]
    features: Features
    mean_SD: np.ndarray
    precision_DD: np.ndarray

    @classmethod
    def learn(cls, clips: Mapping[str, Sequence[np.ndarray]], sample_rate_hz: int, features: Features) -> Identifier:
        """Learn from recordings of each source, at least two clips each."""
        found = [np.stack([features(pcm_L, sample_rate_hz) for pcm_L in recordings]) for recordings in clips.values()]
        within_DD = np.mean([np.cov(features_CD, rowvar=False) for features_CD in found], axis=0)
        variance_DD = np.diag(np.diag(within_DD) + _SMALLEST_VARIANCE)
        return cls(
            names=tuple(clips),
            features=features,
            mean_SD=np.stack([features_CD.mean(axis=0) for features_CD in found]),
            precision_DD=np.linalg.inv(_SHRINKAGE * variance_DD + (1 - _SHRINKAGE) * within_DD),
        )

    def nearest(self, pcm_L: np.ndarray, sample_rate_hz: int) -> str:
        """The source with the nearest mean (Mahalanobis distance)."""
        away_SD = self.mean_SD - self.features(pcm_L, sample_rate_hz)
        return self.names[int(np.einsum("sd,de,se->s", away_SD, self.precision_DD, away_SD).argmin())]


def timbre(pcm_L: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Mean log-mel spectrum of the frames that sound, with its level removed."""
    log_mel_TM = log_mel(pcm_L, sample_rate_hz)
    log_mel_TM = np.maximum(log_mel_TM, log_mel_TM.max() - _RANGE_DB * _NEPERS_PER_DB)
    power_T = np.log(np.exp(log_mel_TM).sum(axis=1))
    sounding_TM = log_mel_TM[power_T > power_T.max() - _QUIETEST_DB * _NEPERS_PER_DB]
    spectrum_M = sounding_TM.mean(axis=0)
    return np.asarray(spectrum_M - spectrum_M.mean())


def timbre_and_pitch(pcm_L: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """`timbre`, and the pitch's median and spread in octaves, which are 0 for a clip without pitch."""
    pitch_T = yin(pcm_L, sample_rate_hz)
    octaves_T = np.log2(pitch_T[~np.isnan(pitch_T)] / 100)
    pitch_D = [float(np.median(octaves_T)), float(octaves_T.std())] if len(octaves_T) else [0.0, 0.0]
    return np.concatenate([timbre(pcm_L, sample_rate_hz), np.array(pitch_D)])
