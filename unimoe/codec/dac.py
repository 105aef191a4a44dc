"""The Descript Audio Codec in torch, and its published weight file.

The published model uses the codes of `weights_16khz.pth` (descript-audio-codec 0.0.5). That file is a dictionary of
"state_dict", with weight normalization as `weight_g` and `weight_v`, and "metadata", whose "kwargs" are the
configuration. `unimoe_runtime.codec.dac_config` describes the architecture.

Shapes: B batch, L samples, C channels, D width of the latent, K codebooks, T frames, N = B x T, W width of a code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from unimoe.codec.base import SizesOfConfig
from unimoe_runtime.codec.dac_config import DILATIONS, KERNEL, DacConfig, check_shapes, half, tensor_shapes
from unimoe_runtime.errors import CheckpointError, ConfigError
from unimoe_runtime.files.json import read_json

# Our field names by those of the published configuration.
_FIELDS = {
    "sample_rate": "sample_rate_hz", "encoder_dim": "encoder_width", "encoder_rates": "encoder_strides",
    "decoder_dim": "decoder_width", "decoder_rates": "decoder_strides", "latent_dim": "latent_size",
    "n_codebooks": "num_codebooks", "codebook_size": "codebook_size", "codebook_dim": "codebook_width",
}  # fmt: skip
_SNAKE_EPSILON = 1e-9


class DacCodec(SizesOfConfig, nn.Module):
    """DAC. `load` opens a codec folder, `from_published` the published weight file."""

    def __init__(self, config: DacConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _Encoder(config)
        self.quantizer = _Quantizer(config)
        self.decoder = _Decoder(config)

    @torch.no_grad()
    def encode(self, pcm_BL: Tensor) -> Tensor:
        """Codes [B, K, T] of float samples in -1 … 1. Zeros pad the end to a whole frame."""
        padded_BL = nn.functional.pad(pcm_BL, (0, -pcm_BL.shape[1] % self.hop_samples))
        return self.quantizer.encode(self.encoder(padded_BL[:, None]))

    @torch.no_grad()
    def decode(self, codes_BKT: Tensor) -> Tensor:
        """Samples [B, L] of codes, L = T · hop_samples. The last `config.missing_samples` are silence."""
        pcm_BL = self.decoder(self.quantizer.decode(codes_BKT))[:, 0]
        return nn.functional.pad(pcm_BL, (0, self.config.missing_samples))

    @classmethod
    def load(cls, codec_dir: Path | str) -> DacCodec:
        """Open a codec folder of kind "dac". Raises CheckpointError."""
        codec_dir = Path(codec_dir)
        try:
            config = DacConfig.from_dict(read_json(codec_dir / "config.json", CheckpointError))
            weights = load_file(codec_dir / "model.safetensors")
        except (ConfigError, OSError, SafetensorError) as error:
            raise CheckpointError(f"{codec_dir}: is no DAC codec ({' '.join(str(error).split())})") from None
        shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        check_shapes(codec_dir / "model.safetensors", tensor_shapes(config), shapes)
        return cls._of(config, weights)

    @classmethod
    def from_published(cls, path: Path | str) -> DacCodec:
        """Open the published weight file. Raises CheckpointError."""
        return cls._of(*read_published(path))

    @classmethod
    def _of(cls, config: DacConfig, weights: Mapping[str, Tensor]) -> DacCodec:
        codec = cls(config)
        codec.load_state_dict(dict(weights))
        return codec.eval().requires_grad_(False)


def read_published(path: Path | str) -> tuple[DacConfig, dict[str, Tensor]]:
    """Configuration and float32 weights of the published file, with weight normalization folded.

    Runs no code from the file. Raises CheckpointError with one line where the file is damaged or of another model.
    """
    path = Path(path)
    try:
        published = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # torch raises many kinds for a damaged or unsafe file
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{path}: not a file of plain weights ({reason}); take weights_16khz.pth") from None
    try:
        state, options = published["state_dict"], published["metadata"]["kwargs"]
        config = _config(options)
        stored = {str(name): _plain_shape(name, tensor) for name, tensor in state.items()}
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not the weights of DAC ({type(error).__name__}: {error}); take weights_16khz.pth"
        ) from None
    expected: dict[str, tuple[int, ...]] = {}
    for name, shape in tensor_shapes(config).items():
        if len(shape) == 3 and name.endswith(".weight"):
            expected[f"{name}_g"], expected[f"{name}_v"] = (shape[0], 1, 1), shape
        else:
            expected[name] = shape
    check_shapes(path, expected, stored)
    weights = {name: _folded(state, name) for name in tensor_shapes(config)}
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path}: {name} holds values that are not numbers: download the file again")
    return config, weights


def import_dac(path: Path | str, out_dir: Path | str) -> None:
    """Convert the published weight file into a codec folder. Exporting the folder needs no torch.

    Raises CheckpointError and then writes nothing.
    """
    config, weights = read_published(path)
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "model.safetensors").write_bytes(save(weights))
    (out_dir / "config.json").write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")


def _config(options: Mapping[str, Any]) -> DacConfig:
    values = {ours: options[name] for name, ours in _FIELDS.items()}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    if values["latent_size"] is None:
        values["latent_size"] = values["encoder_width"] * 2 ** min(len(values["encoder_strides"]), 16)
    return DacConfig(**values)


def _plain_shape(name: str, tensor: Any) -> tuple[int, ...]:
    plain = isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.layout == torch.strided
    if not plain or tensor.is_meta:
        raise TypeError(f"{name} is no tensor of numbers")
    return tuple(tensor.shape)


def _folded(state: Mapping[str, Tensor], name: str) -> Tensor:
    """weight = g · v / ‖v‖, the norm over all axes but the first. Other tensors stay unchanged."""
    if name in state:
        return state[name].float().contiguous()
    direction = state[f"{name}_v"].float()
    return (state[f"{name}_g"].float() * direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1)).contiguous()


class _Snake(nn.Module):
    """x + sin²(alpha · x) / alpha, one alpha for each channel (Ziyin et al. 2020, arXiv:2006.08195)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, width, 1))

    def forward(self, x_BCT: Tensor) -> Tensor:
        return x_BCT + (self.alpha * x_BCT).sin().square() / (self.alpha + _SNAKE_EPSILON)


class _Unit(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        wide = nn.Conv1d(width, width, KERNEL, dilation=dilation, padding=KERNEL // 2 * dilation)
        self.block = nn.Sequential(_Snake(width), wide, _Snake(width), nn.Conv1d(width, width, 1))

    def forward(self, x_BCT: Tensor) -> Tensor:
        return x_BCT + self.block(x_BCT)


class _Block(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.block = nn.Sequential(*layers)

    def forward(self, x_BCT: Tensor) -> Tensor:
        return self.block(x_BCT)


def _units(width: int) -> list[nn.Module]:
    return [_Unit(width, dilation) for dilation in DILATIONS]


class _Encoder(_Block):
    """pcm_B1L to latent_BDT."""

    def __init__(self, config: DacConfig) -> None:
        width = config.encoder_width
        layers: list[nn.Module] = [nn.Conv1d(1, width, KERNEL, padding=KERNEL // 2)]
        for stride in config.encoder_strides:
            down = nn.Conv1d(width, 2 * width, 2 * stride, stride=stride, padding=half(stride))
            layers.append(_Block(*_units(width), _Snake(width), down))
            width *= 2
        super().__init__(*layers, _Snake(width), nn.Conv1d(width, config.latent_size, 3, padding=1))


class _Decoder(nn.Module):
    """latent_BDT to pcm_B1L."""

    def __init__(self, config: DacConfig) -> None:
        super().__init__()
        width = config.decoder_width
        layers: list[nn.Module] = [nn.Conv1d(config.latent_size, width, KERNEL, padding=KERNEL // 2)]
        for stride in config.decoder_strides:
            up = nn.ConvTranspose1d(width, width // 2, 2 * stride, stride=stride, padding=half(stride))
            layers.append(_Block(_Snake(width), up, *_units(width // 2)))
            width //= 2
        self.model = nn.Sequential(*layers, _Snake(width), nn.Conv1d(width, 1, KERNEL, padding=KERNEL // 2), nn.Tanh())

    def forward(self, latent_BDT: Tensor) -> Tensor:
        return self.model(latent_BDT)


class _Codebook(nn.Module):
    def __init__(self, config: DacConfig) -> None:
        super().__init__()
        self.in_proj = nn.Conv1d(config.latent_size, config.codebook_width, 1)
        self.out_proj = nn.Conv1d(config.codebook_width, config.latent_size, 1)
        self.codebook = nn.Embedding(config.codebook_size, config.codebook_width)

    def nearest(self, residual_BDT: Tensor) -> Tensor:
        """codes_BT: the code with the direction nearest to the projected residual's, the first of equals."""
        normalize = nn.functional.normalize
        found_BTW = normalize(self.in_proj(residual_BDT), dim=1).transpose(1, 2)
        codes_VW = normalize(self.codebook.weight)
        return (2 * found_BTW @ codes_VW.T - codes_VW.square().sum(1)).argmax(-1)

    def vectors(self, codes_BT: Tensor) -> Tensor:
        """Vectors of the codes in the latent space: [B, D, T]."""
        return self.out_proj(self.codebook(codes_BT).transpose(1, 2))


class _Quantizer(nn.Module):
    def __init__(self, config: DacConfig) -> None:
        super().__init__()
        self.quantizers = nn.ModuleList(_Codebook(config) for _ in range(config.num_codebooks))

    def encode(self, latent_BDT: Tensor) -> Tensor:
        """Codes [B, K, T]. Each codebook codes the residual of the previous ones."""
        codes: list[Tensor] = []
        for codebook in self._codebooks():
            codes.append(codebook.nearest(latent_BDT))
            latent_BDT = latent_BDT - codebook.vectors(codes[-1])
        return torch.stack(codes, dim=1)

    def decode(self, codes_BKT: Tensor) -> Tensor:
        """latent_BDT: the sum of the codes' vectors. Fewer codebooks than the codec has are allowed."""
        coded = zip(self._codebooks(), codes_BKT.unbind(1), strict=False)
        parts = [codebook.vectors(codes_BT) for codebook, codes_BT in coded]
        return torch.stack(parts).sum(0)

    def _codebooks(self) -> Iterator[_Codebook]:
        return (module for module in self.quantizers if isinstance(module, _Codebook))
