"""Spectral distance in decibels: zero between equal sounds, positive between unequal ones."""

from __future__ import annotations

import numpy as np
import pytest

from unimoe_runtime.audio.log_mel import log_mel, spectral_distance_db

RATE_HZ = 16000


def test_a_gain_is_measured_in_decibels() -> None:
    noise_L = np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32)
    assert spectral_distance_db(noise_L, noise_L, RATE_HZ) == 0
    assert spectral_distance_db(noise_L, 0.5 * noise_L, RATE_HZ) == pytest.approx(20 * np.log10(2), abs=0.01)


def test_different_lengths_and_silence() -> None:
    noise_L = np.random.default_rng(0).standard_normal(RATE_HZ)
    # Half of the frames differ by 60 dB, within the spread of the noise.
    assert 20 < spectral_distance_db(noise_L, noise_L[: RATE_HZ // 2], RATE_HZ) < 30
    assert spectral_distance_db(np.zeros(0), np.zeros(100), RATE_HZ) == 0
    assert log_mel(np.zeros(0), RATE_HZ).shape == (1, 40)
