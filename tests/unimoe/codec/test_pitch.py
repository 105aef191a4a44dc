"""Pitch tracking of clips: tones, pulses, noise and silence."""

from __future__ import annotations

import pytest
import torch

from unimoe.codec.pitch import track_pitch

CENTRES = torch.arange(20, 80) * 160


@pytest.mark.parametrize("pitch_hz", [70.0, 110.0, 233.0, 500.0])
@pytest.mark.parametrize("harmonics", [1, 10])
def test_tones_have_their_pitch(pitch_hz: float, harmonics: int) -> None:
    time_L = torch.arange(16000) / 16000
    pcm_L = torch.stack([torch.cos(2 * torch.pi * k * pitch_hz * time_L) for k in range(1, harmonics + 1)]).sum(0)
    heard_BT, clarity_BT = track_pitch(0.1 * pcm_L[None], 16000, CENTRES, lowest_hz=55, highest_hz=1100)
    assert heard_BT == pytest.approx(torch.full_like(heard_BT, pitch_hz), rel=0.01) and clarity_BT.min() > 0.8


def test_noise_and_silence_are_not_clear() -> None:
    noise = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0)) * 0.1
    _, clarity_BT = track_pitch(noise, 16000, CENTRES, lowest_hz=55, highest_hz=1100)
    assert (clarity_BT > 0.6).float().mean() < 0.2
    assert (track_pitch(0 * noise, 16000, CENTRES, lowest_hz=55, highest_hz=1100)[1] == 0).all()
