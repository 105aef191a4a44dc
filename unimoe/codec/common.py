"""What the project's codecs share: codes to and from audio, streaming, files, fewer codebooks."""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from unimoe.codec.base import SizesOfConfig
from unimoe.codec.config import CodecShape
from unimoe.codec.layers import BlockShape, Encoder, Stack, State
from unimoe.codec.quantizer import ResidualQuantizer
from unimoe.world import RowSum, own_rows
from unimoe_runtime.errors import CheckpointError, ConfigError
from unimoe_runtime.files.atomic import atomic_file

Shape = TypeVar("Shape", bound=CodecShape)


class CodecDecoder(Stack):
    """A decoder stack at the frame rate. A subclass converts its output to samples."""

    def __init__(self, config: CodecShape) -> None:
        super().__init__(BlockShape.of(config), config.latent_size, config.num_decoder_blocks)

    @abstractmethod
    def decode(self, latent_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        """Samples pcm_BL of the next T frames, and the next state."""

    def reconstruct(
        self, latent_BTD: Tensor, real_BL: Tensor, first_row: int = 0, row_sum: RowSum = own_rows
    ) -> tuple[Tensor, Tensor]:
        """For training: samples of whole clips, and the decoder's own loss, a scalar over the rows of all processes.

        `first_row`: the place of these rows in the whole batch.
        """
        made_BL, _ = self.decode(latent_BTD, self.initial_state(len(latent_BTD)))
        return made_BL, real_BL.new_zeros(())


class TrainedCodec(SizesOfConfig, nn.Module, Generic[Shape]):
    """Encoder, codebooks and decoder. A subclass names its configuration class and makes the decoder."""

    config_type: type[Shape]
    decoder: CodecDecoder

    def __init__(self, config: Shape) -> None:
        super().__init__()
        self.config = config
        self.encoder = self.make_encoder(config)
        self.codebooks = ResidualQuantizer(config.num_codebooks, config.codebook_size, config.latent_size)
        self.decoder = self.make_decoder(config)

    def make_encoder(self, config: Shape) -> Encoder:
        """The encoder, with random weights."""
        return Encoder(config)

    def learning_rate_share(self, name: str) -> float:
        """Factor on the learning rate of a parameter; 0 leaves the parameter unchanged."""
        return 1.0

    def fit_features(self, features_NM: Tensor) -> None:
        """Initialise weights from the statistics of log band energies, before the first training step."""

    @abstractmethod
    def make_decoder(self, config: Shape) -> CodecDecoder:
        """The decoder, with random weights."""

    @torch.no_grad()
    def encode(self, pcm_BL: Tensor) -> Tensor:
        """Codes codes_BKT (int64) of mono audio, T = ceil(L / hop_samples)."""
        return self.codebooks.encode(self.encoder.encode(pcm_BL))

    @torch.no_grad()
    def decode(self, codes_BKT: Tensor) -> Tensor:
        """Audio pcm_BL, L = T x hop_samples."""
        return self.decode_step(codes_BKT, self.initial_state(len(codes_BKT)))[0]

    def initial_state(self, num_rows: int) -> State:
        """The decoder's state before the first frame: all zeros."""
        return self.decoder.initial_state(num_rows)

    @torch.no_grad()
    def decode_step(self, codes_BKT: Tensor, state: State) -> tuple[Tensor, State]:
        """Decode the next T frames. Returns their T x hop_samples samples and the next state."""
        return self.decoder.decode(self.codebooks.decode(codes_BKT), state)

    def with_codebooks(self, count: int) -> Self:
        """This codec with only its first codebooks: fewer tokens a frame, a little less detail.

        Raises ConfigError where it has fewer.
        """
        if not 0 < count <= self.num_codebooks:
            raise ConfigError(f"the codec has {self.num_codebooks} codebooks; {count} of them cannot be kept")
        kept = type(self)(replace(self.config, num_codebooks=count))
        tensors = self.state_dict()
        kept.load_state_dict({**tensors, "codebooks.weight": tensors["codebooks.weight"][:count]})
        return kept.eval().requires_grad_(False)

    def save(self, folder: str | Path, dtype: torch.dtype = torch.bfloat16) -> None:
        """Write config.json and model.safetensors into `folder`, each atomically.

        Files that already have this content stay untouched, because other processes may be reading them.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in self.state_dict().items()}
        config = json.dumps(self.config.to_dict(), indent=2) + "\n"
        for name, content in (("model.safetensors", save(tensors)), ("config.json", config.encode())):
            path = folder / name
            if path.exists() and path.read_bytes() == content:
                continue
            with atomic_file(path) as partial:
                partial.write_bytes(content)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a codec in float32, ready for inference. Raises CheckpointError or ConfigError."""
        folder = Path(folder)
        try:
            fields: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            config = cls.config_type.from_dict(fields)
            tensors = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
        except (OSError, json.JSONDecodeError, SafetensorError) as error:
            raise CheckpointError(f"the codec in {folder} cannot be read ({error})") from None
        codec = cls(config)
        try:
            codec.load_state_dict(tensors)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{folder / 'model.safetensors'} does not fit its config.json: {reason}") from None
        return codec.eval().requires_grad_(False)
