"""Files of our codecs, and codecs with fewer codebooks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unimoe.codec.base import load_codec
from unimoe.codec.convnext import ConvNeXtCodec
from unimoe_runtime.errors import ConfigError


def test_files_round_trip(tmp_path: Path, codec: ConvNeXtCodec, codes_BKT: torch.Tensor) -> None:
    codec.save(tmp_path, torch.float32)
    again = load_codec(tmp_path)
    assert torch.equal(again.decode(codes_BKT), codec.decode(codes_BKT))
    assert (again.sample_rate_hz, again.hop_samples, again.num_codebooks, again.codebook_size) == (16000, 320, 4, 16)


def test_a_codec_that_is_there_is_not_written_again(tmp_path: Path, codec: ConvNeXtCodec) -> None:
    codec.save(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert set(before) == {"config.json", "model.safetensors"}
    codec.save(tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_bfloat16_files_sound_alike(tmp_path: Path, codec: ConvNeXtCodec, codes_BKT: torch.Tensor) -> None:
    codec.save(tmp_path)
    assert all(tensor.dtype == torch.bfloat16 for tensor in load_file(tmp_path / "model.safetensors").values())
    real, made = codec.decode(codes_BKT), load_codec(tmp_path).decode(codes_BKT)
    assert (real - made).norm() / real.norm() < 0.05


def test_the_first_codebooks_alone_are_a_codec_of_the_same_first_codes(codec: ConvNeXtCodec) -> None:
    pcm_BL = torch.randn(1, 4 * codec.hop_samples, generator=torch.Generator().manual_seed(3))
    kept = codec.with_codebooks(2)
    assert kept.config.num_codebooks == kept.num_codebooks == 2
    assert torch.equal(kept.encode(pcm_BL), codec.encode(pcm_BL)[:, :2])
    with pytest.raises(ConfigError, match="5 of them cannot be kept"):
        codec.with_codebooks(5)
