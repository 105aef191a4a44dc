"""The training loop of the token model: AdamW with a cosine, an attention guide, and saves from which it goes on.

The working folder holds `training.pt` (all that is needed to go on) and `metrics.jsonl`.

Shape suffixes: B rows, T positions, M audio positions, K codebooks, N tokens, E routed and null experts.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError  # what torch.load raises, with weights_only too, for a file that is no save
from typing import Any

import numpy as np
import torch
from rich.progress import Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from unimoe.loss import codec_losses, training_loss
from unimoe.model import ModelOutput, UniMoE
from unimoe.training.batches import PLACEHOLDER, Batch, collate, epoch_batches
from unimoe.training.examples import Example
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import CheckpointError, ConfigError


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the token model is trained. The defaults are the demo's recipe.

    `guide_heads`: the layers whose head 0 is guided. `guide_weight` times the mean of -log(attention mass on what
    is being spoken) is added to the loss.
    """

    num_steps: int = 6000
    warmup_steps: int = 60
    batch_size: int = 12
    learning_rate: float = 2e-3
    final_share: float = 0.05
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    token_noise: float = 0.03
    text_drop: float = 0.1
    guide_weight: float = 0.3
    guide_layers: tuple[int, ...] = (1, 2)
    num_threads: int = 2
    seed: int = 0
    log_every_steps: int = 25
    save_every_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "num_threads", "log_every_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be at least 1")
        for name in ("token_noise", "text_drop", "final_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be in 0 … 1")

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine to `final_share` of the rate."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps))
        share = self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * done)) / 2
        return self.learning_rate * share


class Trainer:
    """A model, its optimizer, and where training stands. Step s draws its randomness from (seed, s)."""

    def __init__(self, config: ModelConfig, training: TrainingConfig, examples: Sequence[Example]) -> None:
        if not examples:
            raise ConfigError("there is nothing to train on: the corpus has no clips in its training split")
        torch.manual_seed(training.seed)
        self.config, self.training, self.examples = config, training, examples
        self.model = UniMoE(config)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=training.learning_rate, betas=(0.9, 0.98), weight_decay=training.weight_decay,
            fused=True,
        )  # fmt: skip
        self.step = 0
        self._lengths = [example.length for example in examples]
        self._epoch = -1
        self._batches: list[np.ndarray] = []

    def batch(self, step: int) -> Batch:
        """The batch of a step, the same whenever it is asked for."""
        per_epoch = math.ceil(len(self.examples) / self.training.batch_size)
        epoch, index = divmod(step, per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._batches = epoch_batches(self._lengths, self.training.batch_size, self.training.seed, epoch)
        chosen = [self.examples[at] for at in self._batches[index]]
        rng = np.random.default_rng((self.training.seed, 1, step))
        return collate(
            chosen, self.config, token_noise=self.training.token_noise, text_drop=self.training.text_drop, rng=rng
        )

    def forward(self, batch: Batch) -> tuple[ModelOutput, torch.Tensor]:
        """Output over all positions, and the logits [M, K, V] of the audio positions."""
        embedded_BTC = self.model.embed(batch.ids_BT, batch.inputs_MK, PLACEHOLDER)
        heads = dict.fromkeys(self.training.guide_layers, 0) if self.training.guide_weight else None
        output = self.model(embedded_BTC, batch.positions_BT, batch.mask_BT, log_attention_heads=heads)
        return output, self.model.logits(output.hidden_BTC[batch.audio_BT])

    def train_step(self, *, measure: bool = False) -> dict[str, float]:
        """One optimizer step. Returns the loss, and with `measure` what else is logged."""
        batch = self.batch(self.step)
        rate = self.training.learning_rate_at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        output, logits_MKV = self.forward(batch)
        loss, losses_K = training_loss(logits_MKV, batch.labels_MK, output.aux_loss, self.config, self.step)
        rows, queries, keys = batch.guide
        guide = loss.new_zeros(())
        if len(rows) and output.log_attention:
            mass = torch.stack([scores_BTS[rows, queries, keys] for scores_BTS in output.log_attention.values()])
            guide = -mass.mean()
        total = loss + self.training.guide_weight * guide
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip_norm)
        self.optimizer.step()
        self.step += 1
        found = {"loss": float(losses_K.detach().mean()), "tokens": float(batch.mask_BT.sum())}
        if measure:
            found |= {
                "guide": float(guide.detach()),
                "aux_loss": float(output.aux_loss.detach()),
                "gradient_norm": float(norm),
                "rate": rate,
            }
            with torch.no_grad():
                found |= domain_losses(logits_MKV, batch) | routing_figures(output, batch, self.config)
        return found

    def save(self, path: Path) -> None:
        """Write all that is needed to go on; a killed save leaves the old file whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "config": json.dumps(self.config.to_dict()),
        }
        torch.save(state, partial)
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Go on from a save. Raises CheckpointError where it is damaged or of another model."""
        try:
            state = torch.load(path, weights_only=True)
            if json.loads(state["config"]) != self.config.to_dict():
                raise CheckpointError(f"{path} is of another model configuration: remove it and start again")
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            for group in self.optimizer.param_groups:
                group["fused"] = True
            self.step = int(state["step"])
        except (OSError, RuntimeError, KeyError, ValueError, UnpicklingError):
            raise CheckpointError(f"{path} is damaged and cannot be read: remove it and start again") from None

    def run(self, folder: Path, *, stop_after: int | None = None) -> None:
        """Train to the end (or to step `stop_after`), saving as it goes; goes on from a save in `folder`."""
        torch.set_num_threads(self.training.num_threads)
        save = folder / "training.pt"
        if save.exists():
            self.resume(save)
        folder.mkdir(parents=True, exist_ok=True)
        last = min(self.training.num_steps, stop_after or self.training.num_steps)
        columns = (
            *Progress.get_default_columns()[:3],
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        started = saved = time.monotonic()
        tokens = 0.0
        with Progress(*columns) as progress, (folder / "metrics.jsonl").open("a", encoding="utf-8") as log:
            task = progress.add_task("model", total=self.training.num_steps, completed=self.step, note="")
            while self.step < last:
                measure = (self.step + 1) % self.training.log_every_steps == 0
                found = self.train_step(measure=measure)
                tokens += found["tokens"]
                progress.update(task, completed=self.step)
                now = time.monotonic()
                if measure:
                    record = {"step": self.step, "tokens_per_s": tokens / (now - started), "elapsed_s": now - started}
                    record |= {name: round(value, 5) for name, value in found.items()}
                    log.write(json.dumps(record) + "\n")
                    log.flush()
                    progress.update(task, note=_note(record))
                if now - saved > self.training.save_every_s:
                    self.save(save)
                    saved = now
        self.save(save)


def domain_losses(logits_MKV: torch.Tensor, batch: Batch) -> dict[str, float]:
    """Mean cross-entropy of speech and of music in a batch; a domain that is not in it is left out."""
    found: dict[str, float] = {}
    for name, chosen_M in (("speech", ~batch.is_music_M), ("music", batch.is_music_M)):
        if bool(chosen_M.any()):
            found[f"loss_{name}"] = float(codec_losses(logits_MKV[chosen_M], batch.labels_MK[chosen_M]).mean())
    return found


def routing_figures(output: ModelOutput, batch: Batch, config: ModelConfig) -> dict[str, float]:
    """Mean routed experts picked a token and layer, and the null experts' share of all picks."""
    picked_NE = torch.cat([routing.picked_NE[batch.mask_BT.flatten()] for routing in output.routings])
    routed = float(picked_NE[:, : config.num_routed_experts].sum()) / len(picked_NE)
    null = float(picked_NE[:, config.num_routed_experts :].sum()) / len(picked_NE)
    return {"experts_picked": routed, "null_share": null / max(routed + null, 1e-9)}


@torch.inference_mode()
def evaluate(trainer: Trainer, examples: Sequence[Example]) -> dict[str, float]:
    """Mean cross-entropy by domain over held-out examples, without noise or dropped texts."""
    trainer.model.eval()
    sums: dict[str, list[float]] = {}
    for chosen in epoch_batches([example.length for example in examples], trainer.training.batch_size, 0, 0):
        rng = np.random.default_rng(0)
        batch = collate([examples[at] for at in chosen], trainer.config, token_noise=0.0, text_drop=0.0, rng=rng)
        output, logits_MKV = trainer.forward(batch)
        for name, value in (domain_losses(logits_MKV, batch) | routing_figures(output, batch, trainer.config)).items():
            sums.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in sums.items()}


def describe(training: TrainingConfig) -> dict[str, Any]:
    """The training configuration as JSON values, for a checkpoint's provenance."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(training).items()}


def _note(record: dict[str, float]) -> str:
    names = {
        "loss_speech": "speech",
        "loss_music": "music",
        "guide": "guide",
        "experts_picked": "picked",
        "null_share": "null",
    }
    parts = [f"{short} {record[name]:.2f}" for name, short in names.items() if name in record]
    return " ".join([*parts, f"{record['tokens_per_s']:.0f} tokens/s"])
