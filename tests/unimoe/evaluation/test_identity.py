"""Identity of voices and instruments by spectrum, despite different levels and a codec's noise."""

from __future__ import annotations

import numpy as np

from unimoe.evaluation.identity import Features, Identifier, timbre, timbre_and_pitch

RATE_HZ = 16000
LOUDEST_PARTIALS = {"dull": 2, "bright": 12}


def note(name: str, pitch_hz: float, *, noise: float = 0.0) -> np.ndarray:
    """One second of the instrument's partials over white noise."""
    rng = np.random.default_rng(round(pitch_hz))
    time_L = np.arange(RATE_HZ) / RATE_HZ
    partials = range(1, LOUDEST_PARTIALS[name] + 1)
    tone_L = sum((0.1 / at * np.sin(2 * np.pi * at * pitch_hz * time_L) for at in partials), np.zeros(RATE_HZ))
    return tone_L + noise * rng.normal(size=RATE_HZ)


def known(features: Features = timbre) -> Identifier:
    clips = {name: [note(name, hz) for hz in (200, 240, 280, 320, 360)] for name in LOUDEST_PARTIALS}
    return Identifier.learn(clips, RATE_HZ, features)


def test_the_nearest_is_the_one_that_plays() -> None:
    for features in (timbre, timbre_and_pitch):
        for name in LOUDEST_PARTIALS:
            assert known(features).nearest(note(name, 300), RATE_HZ) == name
            assert known(features).nearest(0.01 * note(name, 260), RATE_HZ) == name, "a quiet recording"


def test_noise_that_nobody_hears_changes_nothing() -> None:
    for name in LOUDEST_PARTIALS:
        clean_M, noisy_M = timbre(note(name, 300), RATE_HZ), timbre(note(name, 300, noise=1e-4), RATE_HZ)
        assert np.abs(clean_M - noisy_M).max() < 1
        assert known().nearest(note(name, 300, noise=1e-4), RATE_HZ) == name


def test_a_clip_without_pitch_has_features() -> None:
    assert np.isfinite(timbre_and_pitch(np.random.default_rng(0).normal(size=RATE_HZ), RATE_HZ)).all()
    assert np.isfinite(timbre_and_pitch(np.zeros(RATE_HZ), RATE_HZ)).all()
