"""Training of our codec on a rendered corpus: minutes on a CPU, resumable.

A decoder can be trained anew for the tokens of a codec that is there: everything that was encoded stays valid. The
working folder holds `training.pt` (everything that is needed to go on), `log.jsonl` and the finished codec.

Shapes: B rows, L samples, T frames, D latent.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.progress import Progress, TextColumn
from torch import Tensor

from unimoe.codec.base import codec_config, new_codec
from unimoe.codec.common import TrainedCodec
from unimoe.codec.config import CodecShape, ConvNeXtCodecConfig
from unimoe.codec.spectral import EnvelopeDistance, SpectralDistance
from unimoe.data.corpus import Corpus, Item
from unimoe_runtime.errors import CheckpointError, ConfigError
from unimoe_runtime.records import JsonRecord


@dataclass(frozen=True, kw_only=True)
class CodecTraining(JsonRecord):
    """How the codec is trained. The defaults are the demo's recipe."""

    num_steps: int = 3600
    warmup_steps: int = 100
    codebooks_from_step: int = 250
    batch_size: int = 8
    segment_frames: int = 80
    music_share: float = 0.45
    learning_rate: float = 1.5e-3
    final_learning_rate: float = 5e-5
    weight_decay: float = 0.01
    commitment_weight: float = 0.25
    envelope_weight: float = 1.0
    clip_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.music_share <= 1:
            raise ConfigError(f"music_share is {self.music_share!r}; it must be in 0 … 1")
        if self.segment_frames < 16:
            raise ConfigError(f"segment_frames is {self.segment_frames!r}; it must be at least 16")
        if not 0 <= self.codebooks_from_step < self.num_steps:
            raise ConfigError(f"codebooks_from_step is {self.codebooks_from_step!r}; it must be below num_steps")

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine to the final rate."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps)
        low, high = self.final_learning_rate, self.learning_rate
        return low + (high - low) * (1 + math.cos(math.pi * done)) / 2


class Segments:
    """Random segments of training clips; every voice is as likely as any other, and so is every instrument."""

    def __init__(self, items: list[Item], training: CodecTraining, hop_samples: int) -> None:
        self.length = training.segment_frames * hop_samples
        self.training = training
        self.sources: dict[str, dict[str, list[Item]]] = {"speech": {}, "music": {}}
        for item in items:
            self.sources[item.domain].setdefault(item.source, []).append(item)

    def batch(self, rng: np.random.Generator) -> Tensor:
        """pcm_BL; clips that are shorter are followed by silence. The level varies by 12 dB."""
        rows = []
        for _ in range(self.training.batch_size):
            domain = "music" if rng.random() < self.training.music_share else "speech"
            pool = self.sources[domain] or self.sources["speech" if domain == "music" else "music"]
            clips = list(pool.values())[rng.integers(len(pool))]
            pcm_L = clips[rng.integers(len(clips))].pcm()
            start = rng.integers(max(1, len(pcm_L) - self.length + 1))
            row = pcm_L[start : start + self.length] * 10 ** (rng.uniform(-9, 3) / 20)
            rows.append(np.pad(row, (0, self.length - len(row))))
        return torch.from_numpy(np.stack(rows).astype(np.float32))


_TOKEN_FIELDS = (
    "sample_rate_hz", "hop_samples", "window_samples", "num_bands", "lowest_band_hz", "band_break_hz", "band_floor",
    "width", "intermediate_size", "kernel_size", "num_encoder_blocks", "latent_size", "num_codebooks",
    "codebook_size", "norm_eps",
)  # fmt: skip
"""What decides the tokens of a clip."""


class CodecTrainer:
    """The codec, its optimizer and where training stands.

    `tokens_of`: a codec whose encoder and codebooks are kept as they are, and whose decoder is what this one's begins
    with, wherever shapes agree. Raises ConfigError where `config` is not that codec's but for the decoder.
    """

    def __init__(
        self,
        config: CodecShape,
        training: CodecTraining,
        corpus: Corpus,
        tokens_of: TrainedCodec[Any] | None = None,
    ) -> None:
        if corpus.sample_rate_hz != config.sample_rate_hz:
            raise ConfigError(f"the corpus is at {corpus.sample_rate_hz} Hz, the codec at {config.sample_rate_hz} Hz")
        torch.manual_seed(training.seed)
        self.training = training
        self.codec = new_codec(config)
        self.tokens_are_given = tokens_of is not None
        if tokens_of is not None:
            different = [name for name in _TOKEN_FIELDS if getattr(config, name) != getattr(tokens_of.config, name)]
            if different:
                raise ConfigError(f"a decoder for given tokens may not differ in {', '.join(different)}")
            own, given = self.codec.state_dict(), tokens_of.state_dict()
            fitting = {name: given[name] for name in own if name in given and given[name].shape == own[name].shape}
            self.codec.load_state_dict({**own, **fitting})
        self.segments = Segments(corpus.select(split="train"), training, config.hop_samples)
        self.distance = SpectralDistance(config.sample_rate_hz)
        self.envelopes = EnvelopeDistance(config.sample_rate_hz)
        trained = self.codec.decoder if self.tokens_are_given else self.codec
        self.optimizer = torch.optim.AdamW(trained.parameters(), betas=(0.8, 0.99), weight_decay=training.weight_decay)
        self.step = 0
        # What the window still lacks at either end of a segment is no fault of the codec.
        self.margin = config.window_samples - config.hop_samples

    def train_step(self) -> dict[str, float]:
        """One batch forward and backward. Returns the losses."""
        training = self.training
        rng = np.random.default_rng((training.seed, self.step))
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        real_BL = self.segments.batch(rng)
        latent_BTD, commitment = self._latent(real_BL, rng, generator)
        made_BL, own = self.codec.decoder.reconstruct(latent_BTD, real_BL)
        inner = slice(self.margin, -self.margin)
        distance = self.distance(made_BL[:, inner], real_BL[:, inner])
        envelopes = self.envelopes(made_BL[:, inner], real_BL[:, inner])
        loss = distance + own + training.envelope_weight * envelopes + training.commitment_weight * commitment
        for group in self.optimizer.param_groups:
            group["lr"] = training.learning_rate_at(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.codec.parameters(), training.clip_norm)
        self.optimizer.step()
        self.step += 1
        losses = {"distance": distance, "envelopes": envelopes, "commitment": commitment, "own": own}
        return {name: value.item() for name, value in losses.items()}

    def _latent(self, real_BL: Tensor, rng: np.random.Generator, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What the decoder is given, latent_BTD, and the commitment loss."""
        nothing = real_BL.new_zeros(())
        if self.tokens_are_given:
            return self.codec.codebooks.decode(self.codec.encode(real_BL)), nothing
        latent_BTD = self.codec.encoder.encode(real_BL)
        if self.step < self.training.codebooks_from_step:
            return latent_BTD, nothing
        if self.step == self.training.codebooks_from_step:
            self._initialise_codebooks(rng, generator)
        quantized: tuple[Tensor, Tensor] = self.codec.codebooks(latent_BTD, generator)
        return quantized

    @torch.no_grad()
    def _initialise_codebooks(self, rng: np.random.Generator, generator: torch.Generator) -> None:
        batches = -(-40 * self.codec.codebook_size // (self.training.batch_size * self.training.segment_frames))
        latents = [self.codec.encoder.encode(self.segments.batch(rng)).flatten(0, 1) for _ in range(batches)]
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
        """Train to the last step, one dictionary of losses a step."""
        while self.step < self.training.num_steps:
            yield self.train_step()


def save_training(trainer: CodecTrainer, folder: Path) -> None:
    """Write `training.pt` and the codec as it stands; a broken-off write leaves the earlier state."""
    partial = folder / "training.pt.partial"
    torch.save(trainer.state_dict(), partial)
    partial.replace(folder / "training.pt")
    trainer.codec.save(folder / "codec")


def train_codec(
    corpus: Corpus,
    folder: str | Path,
    config: CodecShape,
    training: CodecTraining,
    *,
    tokens_of: TrainedCodec[Any] | None = None,
    save_every: int = 250,
    report: Callable[[str], None] = lambda line: None,
) -> TrainedCodec[Any]:
    """Train a codec, going on from the state in `folder` where there is one. Writes `folder`/codec.

    With `tokens_of` the decoder alone is trained, for that codec's tokens (`CodecTrainer`).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    trainer = CodecTrainer(config, training, corpus, tokens_of)
    if (folder / "training.pt").exists():
        trainer.load_state_dict(torch.load(folder / "training.pt", weights_only=True))
        if trainer.step >= training.num_steps:
            return trainer.codec
    what = "codec" if tokens_of is None else "codec's decoder"
    report(f"training the {what}: steps {trainer.step:,} to {training.num_steps:,}")
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[distance]:.3f}"))
    with Progress(*columns) as progress, (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        task = progress.add_task("codec", total=training.num_steps, completed=trainer.step, distance=math.nan)
        recent: list[float] = []
        started = time.process_time()
        for losses in trainer.steps():
            recent.append(losses["distance"])
            progress.update(task, completed=trainer.step, distance=losses["distance"])
            if trainer.step % 50 == 0:
                line = {"step": trainer.step, "distance": sum(recent) / len(recent), **{"last": losses}}
                log.write(json.dumps({**line, "cpu_s": round(time.process_time() - started, 1)}) + "\n")
                log.flush()
                recent.clear()
            if trainer.step % save_every == 0:
                save_training(trainer, folder)
    save_training(trainer, folder)
    return trainer.codec


@click.command()
@click.argument("corpus", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--steps", default=CodecTraining.num_steps, show_default=True, help="Optimizer steps in all.")
@click.option("--batch-size", default=CodecTraining.batch_size, show_default=True, help="Segments a step.")
@click.option("--seed", default=0, show_default=True, help="Seed of weights and batches.")
@click.option("--threads", default=2, show_default=True, help="CPU threads.")
def command(corpus: Path, folder: Path, steps: int, batch_size: int, seed: int, threads: int) -> None:
    """Train the codec on a rendered CORPUS; FOLDER/codec is the result. Run it again to go on."""
    torch.set_num_threads(threads)
    training = CodecTraining(num_steps=steps, batch_size=batch_size, seed=seed)
    train_codec(Corpus.open(corpus), folder, ConvNeXtCodecConfig(), training)
    click.echo(f"codec in {folder / 'codec'}")


if __name__ == "__main__":
    command()
