"""DACs of random weights in the exact format of the published weight file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from unimoe.codec.dac import import_dac
from unimoe_runtime.codec.dac_config import DacConfig, tensor_shapes

PUBLISHED = {
    "sample_rate": 16000, "encoder_dim": 64, "encoder_rates": [2, 4, 5, 8], "latent_dim": 1024, "decoder_dim": 1536,
    "decoder_rates": [8, 5, 4, 2], "n_codebooks": 12, "codebook_size": 1024, "codebook_dim": 8,
    "quantizer_dropout": 0.5,
}  # fmt: skip
"""metadata.kwargs of weights_16khz.pth."""

TINY = {**PUBLISHED, "encoder_dim": 4, "latent_dim": 64, "decoder_dim": 32, "n_codebooks": 4}
"""Few channels and 4 codebooks; hop, sample rate and codebook size as published."""


def write_random_dac(path: Path, options: dict[str, Any] | None = None, seed: int = 0) -> Path:
    """Write a weight file of a random DAC (default: `TINY`) whose codes and audio vary with its input."""
    options = options or TINY
    torch.save({"state_dict": random_state(options, seed), "metadata": {"kwargs": options}}, path)
    return path


def write_random_codec(folder: Path, options: dict[str, Any] | None = None) -> Path:
    """Write the same DAC as a codec folder for the exporter."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    import_dac(write_random_dac(folder.with_suffix(".pth"), options), folder)
    return folder


def random_state(options: dict[str, Any], seed: int = 0) -> dict[str, torch.Tensor]:
    """The state dict under the published names, weight normalization as `weight_g` and `weight_v`."""
    random = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in tensor_shapes(dac_config(options)).items():
        values = torch.randn(shape, generator=random)
        if name.endswith("alpha"):
            state[name] = 0.5 + values.abs()
        elif name.endswith("bias"):
            state[name] = 0.1 * values
        elif len(shape) == 3:
            # Residual units add little, and the last layer's output does not saturate tanh.
            gain = 0.2 if name.endswith(".block.3.weight") or shape[0] == 1 else 0.8
            state[f"{name}_g"] = gain * (1 + 0.3 * torch.rand((shape[0], 1, 1), generator=random))
            state[f"{name}_v"] = values
        else:
            state[name] = values
    return state


def dac_config(options: dict[str, Any]) -> DacConfig:
    """Our configuration for the published settings."""
    return DacConfig(
        sample_rate_hz=options["sample_rate"],
        encoder_width=options["encoder_dim"],
        encoder_strides=tuple(options["encoder_rates"]),
        decoder_width=options["decoder_dim"],
        decoder_strides=tuple(options["decoder_rates"]),
        latent_size=options["latent_dim"],
        num_codebooks=options["n_codebooks"],
        codebook_size=options["codebook_size"],
        codebook_width=options["codebook_dim"],
    )
