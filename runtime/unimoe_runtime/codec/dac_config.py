"""The Descript Audio Codec (Kumar et al. 2023, arXiv:2306.06546): its configuration, tensors and receptive field.

    encoder   conv 7 -> per stride s: 3 residual units, snake, conv 2s by s -> snake, conv 3       latent_BDT
    quantizer per codebook: project down, nearest direction, project the code up, subtract
    decoder   conv 7 -> per stride s: snake, transposed conv 2s by s, 3 residual units -> snake, conv 7, tanh

A residual unit is snake, conv 7 of dilation 1, 3 or 9, snake, conv 1. Nothing is causal: every convolution is
centred. Names are those of the published weight file, with weight normalization folded: `weight` for `weight_g`,
`weight_v`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated, Final, Literal

from unimoe_runtime.errors import CheckpointError, ConfigError
from unimoe_runtime.files.text import first_few
from unimoe_runtime.records import Between, JsonRecord, Length

KERNEL: Final = 7
DILATIONS: Final = (1, 3, 9)
_UNIT_REACH = KERNEL // 2 * sum(DILATIONS)  # receptive field of three residual units, in samples to each side

Width = Annotated[int, Between(1, 1 << 16)]
Strides = Annotated[tuple[Annotated[int, Between(2, 64)], ...], Length(1, 8)]


@dataclass(frozen=True, kw_only=True)
class DacConfig(JsonRecord):
    """Shape of a DAC; the fields are `config.json` of a codec folder of this kind.

    With every stride, the encoder's width doubles and the decoder's width halves. Raises ConfigError.
    """

    kind: Literal["dac"] = "dac"
    sample_rate_hz: Annotated[int, Between(1000, 768_000)]
    encoder_width: Width
    encoder_strides: Strides
    decoder_width: Width
    decoder_strides: Strides
    latent_size: Width
    num_codebooks: Annotated[int, Between(1, 64)]
    codebook_size: Annotated[int, Between(1, 1 << 24)]
    codebook_width: Width

    def check_together(self) -> None:
        if prod(self.encoder_strides) != prod(self.decoder_strides):
            raise ConfigError(f"decoder_strides {self.decoder_strides} do not undo encoder_strides")
        if self.decoder_width % 2 ** len(self.decoder_strides):
            raise ConfigError(f"decoder_width is {self.decoder_width}; it must halve {len(self.decoder_strides)} times")

    @property
    def hop_samples(self) -> int:
        return prod(self.encoder_strides)

    @property
    def missing_samples(self) -> int:
        """Samples that the decoder's output lacks of T · hop_samples: an odd stride loses one at its rate."""
        length = 1
        for stride in self.decoder_strides:
            length = (length + 1) * stride - 2 * half(stride)
        return self.hop_samples - length

    @property
    def frames_around(self) -> tuple[int, int]:
        """`frames_around` of this decoder."""
        return frames_around(self.decoder_strides)


def frames_around(decoder_strides: Sequence[int]) -> tuple[int, int]:
    """Frames before and after a frame that its samples depend on, traced back through the decoder's layers."""
    first, last = -(KERNEL // 2), prod(decoder_strides) - 1 + KERNEL // 2
    for stride in reversed(decoder_strides):
        first, last = first - _UNIT_REACH, last + _UNIT_REACH
        # Input i of a transposed convolution reaches outputs i · stride - padding … + 2 · stride - 1.
        first = -((2 * stride - 1 - first - half(stride)) // stride)
        last = (last + half(stride)) // stride
    return KERNEL // 2 - first, last + KERNEL // 2


def half(stride: int) -> int:
    """The padding of a convolution that changes the rate: half its stride, rounded up."""
    return (stride + 1) // 2


def tensor_shapes(config: DacConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor: convolutions [out, in, kernel], transposed ones [in, out, kernel]."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, outputs: int, inputs: int, kernel: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs, kernel), (outputs,)

    def unit(name: str, width: int) -> None:
        shapes[f"{name}.block.0.alpha"] = shapes[f"{name}.block.2.alpha"] = (1, width, 1)
        conv(f"{name}.block.1", width, width, KERNEL)
        conv(f"{name}.block.3", width, width, 1)

    width = config.encoder_width
    conv("encoder.block.0", width, 1, KERNEL)
    for index, stride in enumerate(config.encoder_strides, 1):
        for position in range(3):
            unit(f"encoder.block.{index}.block.{position}", width)
        shapes[f"encoder.block.{index}.block.3.alpha"] = (1, width, 1)
        conv(f"encoder.block.{index}.block.4", 2 * width, width, 2 * stride)
        width *= 2
    end = len(config.encoder_strides) + 1
    shapes[f"encoder.block.{end}.alpha"] = (1, width, 1)
    conv(f"encoder.block.{end + 1}", config.latent_size, width, 3)
    for index in range(config.num_codebooks):
        name = f"quantizer.quantizers.{index}"
        conv(f"{name}.in_proj", config.codebook_width, config.latent_size, 1)
        conv(f"{name}.out_proj", config.latent_size, config.codebook_width, 1)
        shapes[f"{name}.codebook.weight"] = (config.codebook_size, config.codebook_width)
    width = config.decoder_width
    conv("decoder.model.0", width, config.latent_size, KERNEL)
    for index, stride in enumerate(config.decoder_strides, 1):
        shapes[f"decoder.model.{index}.block.0.alpha"] = (1, width, 1)
        width //= 2
        shapes[f"decoder.model.{index}.block.1.weight"] = (2 * width, width, 2 * stride)
        shapes[f"decoder.model.{index}.block.1.bias"] = (width,)
        for position in range(2, 5):
            unit(f"decoder.model.{index}.block.{position}", width)
    end = len(config.decoder_strides) + 1
    shapes[f"decoder.model.{end}.alpha"] = (1, width, 1)
    conv(f"decoder.model.{end + 1}", 1, width, KERNEL)
    return shapes


def check_shapes(where: object, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError naming tensors that are missing, extra or misshapen."""
    problems = [f"missing {name}" for name in expected if name not in found]
    for name, shape in found.items():
        if name not in expected:
            problems.append(f"extra {name}")
        elif shape != expected[name]:
            problems.append(f"{name} is {list(shape)}, must be {list(expected[name])}")
    if problems:
        raise CheckpointError(
            f"{where}: tensors do not fit the DAC configuration: {first_few(problems, '; ')}; "
            "take weights_16khz.pth of descript-audio-codec"
        )
