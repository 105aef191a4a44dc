"""The harmonic codec: streams equal to the bit, causality, small files, and a continuous phase."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.unimoe.codec.shapes import SMALL_HARMONIC
from unimoe.codec.base import load_codec
from unimoe.codec.config import HarmonicCodecConfig
from unimoe.codec.harmonic import HarmonicCodec
from unimoe.codec.pitch import track_pitch


@pytest.fixture
def codec() -> HarmonicCodec:
    torch.manual_seed(0)
    codec = HarmonicCodec(SMALL_HARMONIC).eval()
    codec.codebooks.weight.normal_()
    return codec


@pytest.mark.parametrize("chunks", [[1] * 23, [1, 2, 20], [7, 16]])
def test_streamed_audio_equals_offline_audio(codec: HarmonicCodec, codes_BKT: torch.Tensor, chunks: list[int]) -> None:
    """The noise table has 7 rows, so the stream also wraps around it."""
    state, pieces = codec.initial_state(2), []
    for part in codes_BKT.split(chunks, dim=-1):
        pcm, state = codec.decode_step(part, state)
        pieces.append(pcm)
    assert (torch.cat(pieces, dim=1) - codec.decode(codes_BKT)).abs().max() <= 1e-5


def test_later_codes_leave_earlier_audio_unchanged(codec: HarmonicCodec, codes_BKT: torch.Tensor) -> None:
    changed = codes_BKT.clone()
    changed[..., 10:] = (changed[..., 10:] + 1) % 16
    one, other = codec.decode(codes_BKT), codec.decode(changed)
    assert torch.allclose(one[:, :3200], other[:, :3200], atol=1e-6)
    assert not torch.allclose(one[:, 3200:3520], other[:, 3200:3520])


def test_a_steady_pitch_sounds_steady_over_frames(codec: HarmonicCodec) -> None:
    """With the same pitch and filter in all frames, one period equals the next across frame bounds."""
    decoder, config = codec.decoder, codec.config
    with torch.no_grad():
        decoder.head.weight.zero_()
        decoder.head.bias.zero_()
        for parameter in decoder.envelope.parameters():
            parameter.zero_()
        decoder.head.bias[config.num_synthesis_bins : 3 * config.num_synthesis_bins] = -30  # no noise and no free part
        decoder.pitch.weight.zero_()
        decoder.pitch.bias.zero_()
        decoder.pitch.bias[36] = 50  # 110 Hz, an octave above 55 Hz
    pcm_L = codec.decode(torch.zeros(1, 4, 30, dtype=torch.int64))[0, 4000:8000]
    assert pcm_L.abs().max() > 0.1
    later_L = pcm_L[1600:]  # eleven periods
    assert (later_L - pcm_L[: len(later_L)]).norm() < 0.05 * later_L.norm()


def test_files_round_trip_and_are_small(tmp_path: Path, codec: HarmonicCodec, codes_BKT: torch.Tensor) -> None:
    codec.save(tmp_path, torch.float32)
    again = load_codec(tmp_path)
    assert isinstance(again, HarmonicCodec) and torch.equal(again.decode(codes_BKT), codec.decode(codes_BKT))
    tensors = HarmonicCodec(HarmonicCodecConfig()).state_dict()
    assert 2 * sum(tensor.numel() for tensor in tensors.values()) < 10e6


def test_before_training_the_envelope_is_that_of_the_audio() -> None:
    """Latents start as principal components of the bands, so that envelopes follow loudness from the first step."""
    torch.manual_seed(0)
    codec = HarmonicCodec(replace(SMALL_HARMONIC, latent_size=100))
    loud_L = (torch.arange(32000) // 4000 % 2) * 0.3 + 0.003  # 0.25 s loud, then 0.25 s quiet
    pcm_BL = torch.randn(1, 32000) * loud_L
    features_BTM = codec.encoder.features(pcm_BL)
    codec.fit_features(features_BTM[0])
    latent_BTD = codec.encoder.encode(pcm_BL)
    _, envelope_BSf, _ = codec.decoder.hidden(latent_BTD, codec.initial_state(1))
    level_S = envelope_BSf[0].mean(-1)
    hop = codec.config.synthesis_hop_samples
    loudness_S = F.avg_pool1d(loud_L[None], 4 * hop, hop)[0].log()[: len(level_S) - 8]
    assert torch.corrcoef(torch.stack([level_S[8 : len(loudness_S)], loudness_S[8:]]))[0, 1] > 0.9


def test_the_codec_in_the_repository_keeps_the_pitch() -> None:
    codec = load_codec(Path(__file__).parents[3] / "checkpoints" / "voices" / "codec")
    assert (codec.sample_rate_hz, codec.hop_samples, codec.num_codebooks, codec.codebook_size) == (24000, 480, 6, 256)
    time_L = torch.arange(24000) / 24000
    pcm_L = torch.stack([torch.cos(2 * torch.pi * 160 * k * time_L) / k for k in range(1, 20)]).sum(0) * 0.05
    made_BL = codec.decode(codec.encode(pcm_L[None]))
    centres = torch.arange(30, 110) * 160
    heard_BT, _ = track_pitch(made_BL, 24000, centres, lowest_hz=55, highest_hz=1100)
    assert heard_BT.median() == pytest.approx(160, rel=0.02)
