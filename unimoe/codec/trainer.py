"""A training step of the project's codecs, and the content of a save.

Shapes: B rows, L samples, T frames, D latent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unimoe.codec.base import codec_config, new_codec
from unimoe.codec.common import TrainedCodec
from unimoe.codec.config import CodecShape
from unimoe.codec.segments import SegmentBatch, Segments, SegmentSource
from unimoe.codec.settings import CodecTraining
from unimoe.codec.spectral import EnvelopeDistance, SpectralDistance
from unimoe.data.corpus import Corpus
from unimoe.world import World
from unimoe_runtime.errors import CheckpointError, ConfigError

_TOKEN_FIELDS = (
    "sample_rate_hz", "hop_samples", "window_samples", "num_bands", "lowest_band_hz", "band_break_hz", "band_floor",
    "width", "intermediate_size", "kernel_size", "num_encoder_blocks", "latent_size", "num_codebooks",
    "codebook_size", "norm_eps",
)  # fmt: skip
"""Fields that determine the tokens of a clip."""
_FITTED_FRAMES = 12000


class CodecTrainer:
    """The codec, its optimizer and the state of training.

    `tokens_of`: a codec whose encoder and codebooks are kept. The decoder starts from the weights of its decoder where
    shapes match. The processes of `world` share each batch, which is possible for given tokens alone. Raises
    ConfigError where `config` would give different tokens.
    """

    def __init__(
        self,
        config: CodecShape,
        training: CodecTraining,
        corpus: Corpus,
        tokens_of: TrainedCodec[Any] | None = None,
        world: World | None = None,
    ) -> None:
        if corpus.sample_rate_hz != config.sample_rate_hz:
            raise ConfigError(f"the corpus is at {corpus.sample_rate_hz} Hz, the codec at {config.sample_rate_hz} Hz")
        torch.manual_seed(training.seed)
        self.training = training
        self.codec = new_codec(config)
        self.tokens_are_given = tokens_of is not None
        self.title = "codec's decoder" if self.tokens_are_given else "codec"
        if tokens_of is not None:
            different = [name for name in _TOKEN_FIELDS if getattr(config, name) != getattr(tokens_of.config, name)]
            if different:
                raise ConfigError(f"a decoder for given tokens may not differ in {', '.join(different)}")
            own, given = self.codec.state_dict(), tokens_of.state_dict()
            fitting = {name: given[name] for name in own if name in given and given[name].shape == own[name].shape}
            self.codec.load_state_dict({**own, **fitting})
        self.world = world or World()
        self.device = self.world.device
        self.codec.to(self.device)
        self.segments: SegmentSource = Segments(corpus.select(split="train"), training, config.hop_samples)
        self.distance = SpectralDistance(config.sample_rate_hz).to(self.device)
        self.envelopes = EnvelopeDistance(config.sample_rate_hz).to(self.device)
        self.optimizer = torch.optim.AdamW(self._groups(), betas=(0.8, 0.99), weight_decay=training.weight_decay)
        self.step = 0
        self.margin = config.window_samples - config.hop_samples

    def _groups(self) -> list[dict[str, Any]]:
        """Trained parameters, grouped by their share of the learning rate."""
        groups: dict[float, list[Tensor]] = {}
        for name, parameter in self.codec.named_parameters():
            share = self.codec.learning_rate_share(name)
            if share and not (self.tokens_are_given and not name.startswith("decoder.")):
                groups.setdefault(share, []).append(parameter)
        return [{"params": parameters, "share": share} for share, parameters in groups.items()]

    def train_step(self) -> dict[str, float]:
        """One forward and backward pass over a batch. Returns the losses."""
        rng = np.random.default_rng((self.training.seed, self.step))
        if self.step == 0 and not self.tokens_are_given:
            self._fit_features(rng)
        batch = self.segments.batch(rng).part(self.world.rank, self.world.size)
        _, losses = self.reconstruct(batch.to(self.device), rng)
        self.update(self.weighted(losses))
        self.step += 1
        return {name: value.item() for name, value in losses.items()}

    def reconstruct(self, batch: SegmentBatch, rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The reconstructed segments, without the margins at both ends, and the losses by name over all processes."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        latent_BTD, commitment = self._latent(batch, rng, generator)
        row_sum = self.world.row_sum
        made_BL, own = self.codec.decoder.reconstruct(latent_BTD, batch.real_BL, batch.first_row, row_sum)
        made_BL, real_BL = self.inner(made_BL), self.inner(batch.real_BL)
        losses = {"distance": self.distance(made_BL, real_BL, row_sum), "commitment": commitment, "own": own}
        if self.training.envelope_weight:
            losses["envelopes"] = self.envelopes(made_BL, real_BL, row_sum)
        return made_BL, losses

    def inner(self, pcm_BL: Tensor) -> Tensor:
        """A segment without its ends, where a window lacks samples through no fault of the codec."""
        return pcm_BL[:, self.margin : -self.margin]

    def weighted(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted loss, which training minimises."""
        weights = {"envelopes": self.training.envelope_weight, "commitment": self.training.commitment_weight}
        return torch.stack([weights.get(name, 1.0) * losses[name] for name in losses]).sum()

    def update(self, loss: Tensor) -> None:
        """One step of the codec's optimizer."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["share"] * self.training.learning_rate_at(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.world.add_gradients(self.codec.parameters())
        torch.nn.utils.clip_grad_norm_(self.codec.parameters(), self.training.clip_norm)
        self.optimizer.step()

    def _latent(
        self, batch: SegmentBatch, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The decoder's input latent_BTD, and the commitment loss."""
        nothing = batch.real_BL.new_zeros(())
        if self.tokens_are_given:
            codes_BKT = self.codec.encode(batch.real_BL) if batch.codes_BKT is None else batch.codes_BKT
            return self.codec.codebooks.decode(codes_BKT), nothing
        latent_BTD = self.codec.encoder.encode(batch.real_BL)
        if self.step < self.training.codebooks_from_step:
            return latent_BTD, nothing
        if self.step == self.training.codebooks_from_step:
            self._initialise_codebooks(rng, generator)
        quantized: tuple[Tensor, Tensor] = self.codec.codebooks(latent_BTD, generator)
        return quantized

    def _samples(self, rng: np.random.Generator) -> Tensor:
        return self.segments.batch(rng).to(self.device).real_BL

    @torch.no_grad()
    def _fit_features(self, rng: np.random.Generator) -> None:
        batches = -(-_FITTED_FRAMES // (self.training.batch_size * self.training.segment_frames))
        features = [self.codec.encoder.features(self._samples(rng)) for _ in range(batches)]
        self.codec.fit_features(torch.cat(features).flatten(0, 1))

    @torch.no_grad()
    def _initialise_codebooks(self, rng: np.random.Generator, generator: torch.Generator) -> None:
        batches = -(-40 * self.codec.codebook_size // (self.training.batch_size * self.training.segment_frames))
        latents = [self.codec.encoder.encode(self._samples(rng)).flatten(0, 1) for _ in range(batches)]
        self.codec.codebooks.initialise(torch.cat(latents), generator)

    def state_dict(self) -> dict[str, Any]:
        quantizer = self.codec.codebooks
        return {
            "codec": self.codec.state_dict(),
            "quantizer": {"usage_KV": quantizer.usage_KV, "sum_KVD": quantizer.sum_KVD},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "training": asdict(self.training),
            "config": self.codec.config.to_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if codec_config(state["config"]) != self.codec.config:
            raise CheckpointError("the training state is of a codec of another configuration: use an empty folder")
        self.codec.load_state_dict(state["codec"])
        self.codec.codebooks.usage_KV.copy_(state["quantizer"]["usage_KV"])
        self.codec.codebooks.sum_KVD.copy_(state["quantizer"]["sum_KVD"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def steps(self) -> Iterator[dict[str, float]]:
        """Train to the last step. Yields a dictionary of losses for each step."""
        while self.step < self.training.num_steps:
            yield self.train_step()
