"""The oscillator's pitches: whole phase steps close to the pitch, and all harmonics that fit."""

from __future__ import annotations

import numpy as np

from unimoe_runtime.codec.oscillator import FINE_PITCHES, PHASE_STEPS, pitch_table


def test_steps_follow_the_pitch_and_harmonics_stay_below_the_nyquist_frequency() -> None:
    steps_I, lobes_I = pitch_table(lowest_hz=55.0, pitches_per_octave=36, num_pitches=160, sample_rate_hz=24000)
    assert len(steps_I) == len(lobes_I) == FINE_PITCHES * 159 + 1
    hz_I = steps_I / PHASE_STEPS * 24000
    np.testing.assert_allclose(hz_I, 55 * 2 ** (np.arange(len(steps_I)) / (36 * FINE_PITCHES)), rtol=1e-6)
    num_harmonics_I = (lobes_I - 1) / 2
    assert (num_harmonics_I * hz_I < 12000).all() and ((num_harmonics_I + 2) * hz_I > 0.96 * 12000).all()
