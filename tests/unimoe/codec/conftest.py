"""A small ConvNeXt codec with random weights, and codes for any small codec."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.unimoe.codec.shapes import SMALL
from unimoe.codec.convnext import ConvNeXtCodec


@pytest.fixture(params=[1, 2], ids=["one spectrum a frame", "two spectra a frame"])
def codec(request: pytest.FixtureRequest) -> ConvNeXtCodec:
    torch.manual_seed(0)
    codec = ConvNeXtCodec(replace(SMALL, synthesis_frames=request.param)).eval()
    codec.codebooks.weight.normal_()
    return codec


@pytest.fixture
def codes_BKT() -> torch.Tensor:
    return torch.randint(0, 16, (2, 4, 23), generator=torch.Generator().manual_seed(1))
