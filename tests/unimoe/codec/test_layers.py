"""Layers that our codecs share: windows, bands, the encoder's lookahead."""

from __future__ import annotations

import pytest
import torch

from tests.unimoe.codec.shapes import SMALL
from unimoe.codec.config import ConvNeXtCodecConfig
from unimoe.codec.convnext import ConvNeXtCodec
from unimoe.codec.layers import band_weights


def test_analysis_and_synthesis_windows_reconstruct() -> None:
    """hann x hann / 1.5 over four hops adds up to 1, so the true spectrum would give the true samples."""
    codec = ConvNeXtCodec(SMALL)
    analysis, synthesis = codec.encoder.window, codec.decoder.synthesis.window
    assert torch.allclose((analysis * synthesis).reshape(4, -1).sum(0), torch.ones(320), atol=1e-6)


def test_bands_cover_the_spectrum() -> None:
    weight_FM = band_weights(ConvNeXtCodecConfig())
    assert weight_FM.shape == (641, 100)
    assert weight_FM.sum(axis=0) == pytest.approx(1, abs=1e-5)
    assert (weight_FM[5:-1].sum(axis=1) > 0).all()


def test_the_encoder_looks_three_hops_ahead() -> None:
    codec = ConvNeXtCodec(SMALL)
    pcm = torch.randn(1, 6400)
    changed = pcm.clone()
    changed[:, 3200:] = 0
    one, other = codec.encoder.encode(pcm), codec.encoder.encode(changed)
    assert torch.allclose(one[:, :7], other[:, :7], atol=1e-6)
    assert not torch.allclose(one[:, 7], other[:, 7], atol=1e-6)
