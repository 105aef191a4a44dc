"""What every codec can do, and how one is opened.

Shapes: B rows, K codebooks, T frames, L samples.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

from torch import Tensor

from unimoe_runtime.errors import CheckpointError


class Codec(Protocol):
    """Audio to codes and back. Rates and sizes come from here, never from constants."""

    @property
    def sample_rate_hz(self) -> int: ...

    @property
    def hop_samples(self) -> int: ...

    @property
    def num_codebooks(self) -> int: ...

    @property
    def codebook_size(self) -> int: ...

    def encode(self, pcm_BL: Tensor) -> Tensor:
        """Codes codes_BKT (int64) of mono audio; the last frame is filled up with silence."""
        ...

    def decode(self, codes_BKT: Tensor) -> Tensor:
        """Audio pcm_BL of T x hop_samples samples."""
        ...


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
        case "encodec":
            from unimoe.codec.encodec import EncodecCodec

            return EncodecCodec(folder)
        case "dac":
            from unimoe.codec.dac import DacCodec

            return DacCodec.load(folder)
        case _:
            raise CheckpointError(f"{path} names the codec kind {kind!r}; known kinds: convnext, encodec, dac")
