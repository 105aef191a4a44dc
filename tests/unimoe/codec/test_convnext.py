"""The ConvNeXt codec: shapes, causality, streaming, and the default size."""

from __future__ import annotations

import pytest
import torch

from unimoe.codec.config import ConvNeXtCodecConfig
from unimoe.codec.convnext import ConvNeXtCodec


@pytest.mark.parametrize(("num_samples", "num_frames"), [(1, 1), (320, 1), (321, 2), (3200, 10)])
def test_shapes(codec: ConvNeXtCodec, num_samples: int, num_frames: int) -> None:
    codes = codec.encode(torch.randn(3, num_samples))
    assert codes.shape == (3, 4, num_frames) and codes.dtype == torch.int64
    assert codes.min() >= 0 and codes.max() < codec.codebook_size
    assert codec.decode(codes).shape == (3, num_frames * codec.hop_samples)


def test_later_codes_leave_earlier_audio_unchanged(codec: ConvNeXtCodec, codes_BKT: torch.Tensor) -> None:
    changed = codes_BKT.clone()
    changed[..., 10:] = (changed[..., 10:] + 1) % 16
    one, other = codec.decode(codes_BKT), codec.decode(changed)
    assert torch.equal(one[:, :3200], other[:, :3200])
    assert not torch.allclose(one[:, 3200:3520], other[:, 3200:3520])


@pytest.mark.parametrize("chunks", [[1] * 23, [1, 2, 20], [23], [7, 16]])
def test_streamed_audio_equals_offline_audio(codec: ConvNeXtCodec, codes_BKT: torch.Tensor, chunks: list[int]) -> None:
    state = codec.initial_state(2)
    pieces = []
    for part in codes_BKT.split(chunks, dim=-1):
        pcm, state = codec.decode_step(part, state)
        pieces.append(pcm)
    assert (torch.cat(pieces, dim=1) - codec.decode(codes_BKT)).abs().max() <= 1e-5


def test_rows_do_not_touch_each_other(codec: ConvNeXtCodec, codes_BKT: torch.Tensor) -> None:
    assert torch.allclose(codec.decode(codes_BKT)[1:], codec.decode(codes_BKT[1:]), atol=1e-6)


def test_each_of_two_spectra_sounds_for_four_half_hops(codec: ConvNeXtCodec) -> None:
    """If every frame gets the same spectrum, the samples repeat with the synthesis hop, except near the ends."""
    with torch.no_grad():
        codec.decoder.head.weight.zero_()
        codec.decoder.head.bias.copy_(codec.decoder.head.bias[: 2 * codec.config.num_synthesis_bins].repeat(
            codec.config.synthesis_frames
        ))  # fmt: skip
    pcm_L = codec.decode(torch.zeros(1, 4, 9, dtype=torch.int64))[0]
    hop = codec.config.synthesis_hop_samples
    inner_NH = pcm_L[3 * hop :].reshape(-1, hop)
    assert torch.allclose(inner_NH, inner_NH[:1].expand_as(inner_NH), atol=1e-6) and inner_NH.abs().max() > 1e-3
    assert not torch.allclose(pcm_L[:hop], inner_NH[0], atol=1e-3)


def test_size_of_the_default_codec() -> None:
    assert sum(tensor.numel() for tensor in ConvNeXtCodec(ConvNeXtCodecConfig()).state_dict().values()) < 2.6e6
