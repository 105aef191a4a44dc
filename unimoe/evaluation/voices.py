"""Which voice speaks: the nearest of a few known voices, by mean spectrum and pitch.

A simple measure: it tells the corpus's voices apart, and says nothing of how alike two voices sound. What it makes
of original recordings is its ceiling; print that beside it.

Shape suffixes: L samples, T frames, M mel bands, D features, V voices, C clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unimoe.evaluation.pitch import yin
from unimoe_runtime.spectrum import log_mel

_QUIETEST_DB = 35.0  # frames this much below the loudest are pauses


@dataclass(frozen=True, kw_only=True, eq=False)
class VoiceCentroids:
    """Mean features of each voice, and the spread of a feature within a voice."""

    voices: tuple[str, ...]
    mean_VD: np.ndarray
    spread_D: np.ndarray

    @classmethod
    def learn(cls, clips: Mapping[str, Sequence[np.ndarray]], sample_rate_hz: int) -> VoiceCentroids:
        """From recordings of each voice; at least two clips each."""
        features = [np.stack([voice_features(pcm_L, sample_rate_hz) for pcm_L in found]) for found in clips.values()]
        mean_VD = np.stack([features_CD.mean(axis=0) for features_CD in features])
        within_D = np.mean([features_CD.var(axis=0) for features_CD in features], axis=0)
        return cls(voices=tuple(clips), mean_VD=mean_VD, spread_D=np.sqrt(within_D) + 1e-6)

    def nearest(self, pcm_L: np.ndarray, sample_rate_hz: int) -> str:
        """The voice whose mean is nearest, every feature measured in its spread."""
        away_VD = (self.mean_VD - voice_features(pcm_L, sample_rate_hz)) / self.spread_D
        return self.voices[int((away_VD**2).sum(axis=1).argmin())]


def voice_features(pcm_L: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Mean log-mel spectrum of the frames that sound, its level taken out; median and spread of the pitch in octaves.

    Features of a clip without sound or pitch are 0 where there is nothing to measure.
    """
    log_mel_TM = log_mel(pcm_L, sample_rate_hz)
    level_T = log_mel_TM.mean(axis=1)
    sounding_TM = log_mel_TM[level_T > level_T.max() - _QUIETEST_DB * np.log(10) / 10]
    spectrum_M = sounding_TM.mean(axis=0)
    pitch_T = yin(pcm_L, sample_rate_hz)
    octaves_T = np.log2(pitch_T[~np.isnan(pitch_T)] / 100)
    pitch_D = [float(np.median(octaves_T)), float(octaves_T.std())] if len(octaves_T) else [0.0, 0.0]
    return np.concatenate([spectrum_M - spectrum_M.mean(), np.array(pitch_D)])
