"""Bundles of random weights that speak and play: a tiny model, the tests' front end, and one codec of each kind."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from tests.random_dac import write_random_codec
from tests.runtime.frontend.small_frontend import write_frontend
from unimoe.codec.config import ConvNeXtCodecConfig
from unimoe.codec.convnext import ConvNeXtCodec
from unimoe_export.exporter import export_bundle
from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.frontend.timeline import TimelineFrontEnd

CODECS = ("convnext", "encodec", "dac")
_ENCODEC = Path(__file__).parent / "vectors" / "encodec_small" / "codec"
_SIZES = {"convnext": (3, 16), "encodec": (3, 16), "dac": (4, 1024)}


def write_speaking_bundle(folder: Path, codec: str = "convnext", *, sample_rate_hz: int = 16000) -> Path:
    """Write a bundle for music such as "flute, 120 bpm: C4 E4" and speech of the tests' lexicon, 30 to 100 frames.

    The front end expects 50 frames a second. "convnext" has them at 1600 Hz; at 16 kHz it has ten times as many.
    """
    frontend = open_frontend(write_frontend(folder / "checkpoint" / "frontend"))
    assert isinstance(frontend, TimelineFrontEnd)
    num_codebooks, codebook_size = _SIZES[codec]
    config = tiny_config(
        text_vocab_size=len(frontend.tokens), num_codebooks=num_codebooks, codebook_size=codebook_size,
        delay_pattern=tuple(range(num_codebooks)), max_positions=1000,
    )  # fmt: skip
    checkpoint = write_random_checkpoint(folder / "checkpoint", config)
    description = json.loads((checkpoint / "config.json").read_text())
    sampling = {"guidance_scale": 1.5, "temperature": 1.0, "top_k": 8}
    description["sampling"] = {"speech": sampling, "music": sampling}
    (checkpoint / "config.json").write_text(json.dumps(description))
    codec_dir = checkpoint / "codec"
    match codec:
        case "convnext":
            _write_convnext(codec_dir, num_codebooks, codebook_size, sample_rate_hz)
        case "encodec":
            codec_dir = _ENCODEC
        case "dac":
            codec_dir = write_random_codec(folder / "dac")
    export_bundle(checkpoint, folder / "bundle", codec=codec_dir)
    return folder / "bundle"


def _write_convnext(folder: Path, num_codebooks: int, codebook_size: int, sample_rate_hz: int) -> None:
    torch.manual_seed(0)
    codec = ConvNeXtCodec(
        ConvNeXtCodecConfig(
            sample_rate_hz=sample_rate_hz, hop_samples=32, window_samples=128, num_bands=12, lowest_band_hz=400.0,
            width=16, intermediate_size=24, kernel_size=5, num_encoder_blocks=1, num_decoder_blocks=2, latent_size=8,
            num_codebooks=num_codebooks, codebook_size=codebook_size, synthesis_frames=2,
        )
    )  # fmt: skip
    with torch.no_grad():
        codec.codebooks.weight.normal_()
    codec.save(folder)
