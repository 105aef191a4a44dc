"""The interface of every codec, and functions that open one.

Shapes: B rows, K codebooks, T frames, L samples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from torch import Tensor

from unimoe.codec.config import CodecShape, ConvNeXtCodecConfig, HarmonicCodecConfig
from unimoe_runtime.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from unimoe.codec.common import TrainedCodec

OWN_KINDS: Final[Mapping[str, type[CodecShape]]] = {"convnext": ConvNeXtCodecConfig, "harmonic": HarmonicCodecConfig}
"""The kinds of codecs that the project trains."""


class Codec(Protocol):
    """Converts audio to codes and back. Callers take rates and sizes from here, never from constants."""

    @property
    def sample_rate_hz(self) -> int: ...

    @property
    def hop_samples(self) -> int: ...

    @property
    def num_codebooks(self) -> int: ...

    @property
    def codebook_size(self) -> int: ...

    def encode(self, pcm_BL: Tensor) -> Tensor:
        """Codes codes_BKT (int64) of mono audio. Silence fills the last frame."""
        ...

    def decode(self, codes_BKT: Tensor) -> Tensor:
        """Audio pcm_BL of T x hop_samples samples."""
        ...


class SizesOfConfig:
    """The sizes of a codec, from its configuration."""

    config: Any

    @property
    def sample_rate_hz(self) -> int:
        return int(self.config.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        return int(self.config.hop_samples)

    @property
    def num_codebooks(self) -> int:
        return int(self.config.num_codebooks)

    @property
    def codebook_size(self) -> int:
        return int(self.config.codebook_size)


def new_codec(config: CodecShape) -> TrainedCodec[Any]:
    """One of the project's own codecs with random weights."""
    if isinstance(config, HarmonicCodecConfig):
        from unimoe.codec.harmonic import HarmonicCodec

        return HarmonicCodec(config)
    if isinstance(config, ConvNeXtCodecConfig):
        from unimoe.codec.convnext import ConvNeXtCodec

        return ConvNeXtCodec(config)
    raise ConfigError(f"{type(config).__name__} is no configuration of a codec that can be trained")


def codec_config(fields: Mapping[str, Any]) -> CodecShape:
    """The configuration of one of the project's codecs. Without a `kind` it is ConvNeXt's. Raises ConfigError."""
    kind = fields.get("kind", "convnext")
    if kind not in OWN_KINDS:
        raise ConfigError(f"kind is {kind!r}; it must be one of {', '.join(OWN_KINDS)}")
    return OWN_KINDS[kind].from_dict(fields)


def load_codec(folder: str | Path) -> Codec:
    """Open the codec in `folder` (config.json and model.safetensors). Raises CheckpointError."""
    path = Path(folder) / "config.json"
    try:
        kind = json.loads(path.read_text(encoding="utf-8")).get("kind")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is no codec configuration ({error})") from None
    match kind:
        case "convnext":
            from unimoe.codec.convnext import ConvNeXtCodec

            return ConvNeXtCodec.load(folder)
        case "harmonic":
            from unimoe.codec.harmonic import HarmonicCodec

            return HarmonicCodec.load(folder)
        case "encodec":
            from unimoe.codec.encodec import EncodecCodec

            return EncodecCodec(folder)
        case "dac":
            from unimoe.codec.dac import DacCodec

            return DacCodec.load(folder)
        case _:
            raise CheckpointError(
                f"{path} names the codec kind {kind!r}; known kinds: convnext, harmonic, encodec, dac"
            )
