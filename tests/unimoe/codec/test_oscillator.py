"""The oscillator: harmonics of the given pitch, a continuous phase, and the mean pitch near a peak."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.unimoe.codec.shapes import SMALL_HARMONIC
from unimoe.codec.oscillator import NoisePhases, Oscillator, fine_pitch
from unimoe_runtime.codec.oscillator import FINE_PITCHES


@pytest.mark.parametrize("pitch_hz", [70.0, 233.0, 900.0])
def test_all_harmonics_have_the_amplitude_one(pitch_hz: float) -> None:
    oscillator = Oscillator(SMALL_HARMONIC)
    pitch = (oscillator.pitch_of(torch.tensor([[pitch_hz]])) * FINE_PITCHES).round().long()
    source_L = oscillator(pitch.expand(1, 100), torch.zeros(1, 1, dtype=torch.int64))[0][0].numpy()
    heard_hz = oscillator.steps_I[pitch].item() / 2**30 * 16000
    assert heard_hz == pytest.approx(pitch_hz, rel=3e-3)
    time_L = np.arange(len(source_L)) / 16000
    expected_L = sum(np.cos(2 * np.pi * k * heard_hz * time_L) for k in range(1, int(0.96 * 8000 / heard_hz) + 1))
    np.testing.assert_allclose(source_L, expected_L, atol=0.02)


def test_the_phase_runs_on() -> None:
    oscillator = Oscillator(SMALL_HARMONIC)
    pitch_BT = torch.randint(0, 1200, (2, 12), generator=torch.Generator().manual_seed(0))
    phase = torch.zeros(2, 1, dtype=torch.int64)
    whole_BL, end = oscillator(pitch_BT, phase)
    first_BL, middle = oscillator(pitch_BT[:, :5], phase)
    second_BL, last = oscillator(pitch_BT[:, 5:], middle)
    assert torch.equal(torch.cat([first_BL, second_BL], dim=1), whole_BL) and torch.equal(end, last)


def test_the_pitch_is_the_mean_around_the_likeliest_class() -> None:
    logits = torch.full((1, 1, 40), -20.0)
    logits[..., 10] = logits[..., 11] = 5.0
    logits[..., 30] = 4.9  # a peak in another octave does not count
    assert fine_pitch(logits).item() == 84


def test_noise_is_read_round_and_round() -> None:
    noise = NoisePhases(SMALL_HARMONIC)
    position = torch.tensor([[5], [0]])
    phase_BTF, position = noise(position, 4)
    assert torch.equal(phase_BTF[0], noise.phase[[5, 6, 0, 1]]) and torch.equal(phase_BTF[1], noise.phase[:4])
    assert position.flatten().tolist() == [2, 4]
