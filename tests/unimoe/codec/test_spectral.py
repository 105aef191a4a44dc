"""Spectral distances for the training of codecs."""

from __future__ import annotations

import torch

from unimoe.codec.spectral import EnvelopeDistance, SpectralDistance


def test_distance_is_zero_for_the_same_audio_and_grows_with_a_semitone() -> None:
    distance = SpectralDistance(16000)
    time_L = torch.arange(8000) / 16000
    tone, near, far = (torch.sin(2 * torch.pi * f * time_L)[None] * 0.3 for f in (440.0, 441.0, 466.2))
    assert distance(tone, tone) == 0
    assert distance(near, tone) < 0.5 * distance(far, tone)


def test_envelopes_do_not_hear_level_but_hear_beats_that_are_not_there() -> None:
    distance = EnvelopeDistance(16000)
    time_L = torch.arange(16000) / 16000
    spoken_L = torch.sin(2 * torch.pi * 500 * time_L) * (1 + torch.sin(2 * torch.pi * 5 * time_L))
    beating_L = spoken_L * (1 + 0.8 * torch.sin(2 * torch.pi * 27 * time_L))
    assert distance(0.5 * spoken_L[None], spoken_L[None]) < 0.05
    assert distance(beating_L[None], spoken_L[None]) > 0.1
    assert 0.6 < distance(torch.rand(1, 16000) - 0.5, spoken_L[None]) < 1.2
