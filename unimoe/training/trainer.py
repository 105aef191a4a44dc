"""The training loop of the token model: AdamW with a cosine schedule, an attention guide, and saves to resume from.

The working folder holds `training.pt` (the state of the run), `metrics.jsonl` and TensorBoard's events.

Shape suffixes: B rows, T positions, M audio positions, K codebooks, V ids of one codebook.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unimoe.model import UniMoE
from unimoe.stopping import stop_between_steps
from unimoe.training.batches import Batch, collate, epoch_batches
from unimoe.training.examples import Example
from unimoe.training.figures import Figures
from unimoe.training.merging import is_new
from unimoe.training.objective import Objective, Totals
from unimoe.training.parallel import gradients_in_step, load_optimizer, load_weights, whole_state, wrap
from unimoe.training.reporting import Reporter
from unimoe.training.saves import SAVE, read_save, was_trained_with, write_save
from unimoe.training.settings import TrainingConfig
from unimoe.world import World
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import CheckpointError, ConfigError


class Trainer:
    """A model, its optimizer, and the state of training. The randomness of step s comes from (seed, s).

    `initial`: weights to start from instead of random ones.
    """

    def __init__(
        self,
        config: ModelConfig,
        training: TrainingConfig,
        examples: Sequence[Example],
        *,
        initial: Mapping[str, Tensor] | None = None,
        world: World | None = None,
    ) -> None:
        if not examples:
            raise ConfigError("there is nothing to train on: the corpus has no clips in its training split")
        torch.manual_seed(training.seed)
        self.config, self.training, self.examples = config, training, examples
        self.world = world or World()
        self.model = UniMoE(config)
        if initial is not None:
            self.model.load_state_dict(initial)
        if training.trained == "gate and shared":
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(is_new(name))
        self.objective = wrap(Objective(self.model, training), self.world)
        trained = [parameter for parameter in self.objective.parameters() if parameter.requires_grad]
        if not trained:
            raise ConfigError("there is nothing to train: a dense model has no gate")
        self.optimizer = torch.optim.AdamW(
            trained, lr=training.learning_rate, betas=(0.9, 0.98), weight_decay=training.weight_decay, fused=True
        )
        self.step = 0
        # Every process takes equally many parts of a batch.
        self.num_parts = math.ceil(training.micro_batches / self.world.size) * self.world.size
        self._lengths = [example.length for example in examples]
        self._domains = [example.domain for example in examples]
        self._epoch = -1
        self._batches: list[np.ndarray] = []

    def batch(self, step: int) -> Batch:
        """The whole batch of a step. It is the same on every call."""
        per_epoch = math.ceil(len(self.examples) / self.training.batch_size)
        epoch, index = divmod(step, per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._batches = epoch_batches(
                self._lengths, self.training.batch_size, self.training.seed, epoch,
                sorted_batches=self.training.sorted_batches, domains=self._domains,
            )  # fmt: skip
        chosen = self._batches[index]
        if len(chosen) < self.num_parts:  # an epoch's last batch: no part may be empty
            chosen = np.resize(chosen, self.num_parts)
        rng = np.random.default_rng((self.training.seed, 1, step))
        noise, drop = self.training.token_noise, self.training.text_drop
        return collate([self.examples[at] for at in chosen], self.config, token_noise=noise, text_drop=drop, rng=rng)

    def train_step(self, *, measure: bool = False) -> dict[str, float]:
        """One optimizer step. Returns the batch's number of tokens, and with `measure` all logged figures."""
        batch = self.batch(self.step)
        rate = self.training.learning_rate_at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.objective.train()
        self.optimizer.zero_grad(set_to_none=True)
        totals = Totals.of(batch, self.num_parts)
        figures = Figures(self.config)
        mine = range(self.world.rank, self.num_parts, self.world.size)
        for index in mine:
            part = batch.part(index, self.num_parts).to(self.world.device)
            torch.manual_seed((self.training.seed * 1_000_003 + self.step) * 1024 + index)
            with gradients_in_step(self.objective, last=index == mine[-1]):
                losses = self.objective(part, totals, self.step)
                # The engines average over the processes, but the sum of the parts is needed.
                (losses.total * self.world.size).backward()
            if measure:
                figures.add(losses, part)
        norm = torch.nn.utils.clip_grad_norm_(self.objective.parameters(), self.training.clip_norm)
        self.optimizer.step()
        self.step += 1
        found = {"tokens": float(batch.mask_BT.sum())}
        if measure:
            self.world.sum(figures.sums)
            whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
            found |= figures.result() | {"gradient_norm": float(whole), "rate": rate}
        return found

    def save(self, path: Path) -> None:
        """Write what a run needs to resume. A killed save leaves the old file whole. Every process must call it."""
        state = whole_state(self.objective, self.optimizer)
        if self.world.is_first:
            write_save(path, self.config, state, training=self.training, step=self.step)
        self.world.wait()

    def resume(self, path: Path) -> None:
        """Resume from a save. Raises CheckpointError where it is damaged, or where model or settings differ."""
        state = read_save(path)
        if json.loads(state["config"]) != self.config.to_dict():
            raise CheckpointError(f"{path} is of another model configuration: remove it and start again")
        if not was_trained_with(state, self.training):
            raise CheckpointError(f"{path} was trained with other settings: remove it and start again")
        try:
            load_weights(self.objective, state["model"])
            load_optimizer(self.objective, self.optimizer, state["optimizer"])
        except (RuntimeError, KeyError, ValueError):
            raise CheckpointError(f"{path} is damaged and cannot be read: remove it and start again") from None
        self.step = int(state["step"])

    def run(self, folder: Path, *, stop_after: int | None = None, title: str = "model") -> None:
        """Train to the end (or to step `stop_after`) with regular saves. Resumes from a save in `folder`."""
        torch.set_num_threads(self.training.num_threads)
        save = folder / SAVE
        if save.exists():
            self.resume(save)
        folder.mkdir(parents=True, exist_ok=True)
        last = min(self.training.num_steps, stop_after or self.training.num_steps)
        if self.step >= last and save.exists():
            return
        saved = time.monotonic()
        silent = not self.world.is_first
        reporting = Reporter(folder, title, step=self.step, num_steps=self.training.num_steps, silent=silent)
        with reporting as reporter, stop_between_steps() as stop:
            while self.step < last and not stop:
                measure = (self.step + 1) % self.training.log_every_steps == 0
                found = self.train_step(measure=measure)
                reporter.advance(self.step, found.pop("tokens"), found if measure else None)
                if self._is_due(saved):
                    self.save(save)
                    saved = time.monotonic()
        if self.world.size == 1 or not stop:  # processes that received it at different steps cannot save together
            self.save(save)
        stop.end(f"{title}: stopped at step {self.step:,} of {last:,}; {save} goes on from the last save")

    def _is_due(self, saved: float) -> bool:
        """Whether to save now. The first process's clock decides for all processes."""
        return self.world.any(self.world.is_first and time.monotonic() - saved > self.training.save_every_s)


@torch.inference_mode()
def evaluate(trainer: Trainer, examples: Sequence[Example]) -> dict[str, float]:
    """Mean cross-entropy by domain over held-out examples, without noise or dropped texts, and routing figures."""
    trainer.objective.eval()
    figures = Figures(trainer.config)
    batches = epoch_batches([example.length for example in examples], trainer.training.batch_size, 0, 0)
    for chosen in batches:  # in every process, because FSDP needs all of them in each forward pass
        rng = np.random.default_rng(0)
        batch = collate([examples[at] for at in chosen], trainer.config, token_noise=0.0, text_drop=0.0, rng=rng)
        batch = batch.to(trainer.world.device)
        figures.add(trainer.objective(batch, Totals.of(batch), trainer.step), batch)
    return {name: value for name, value in figures.result().items() if name not in ("loss", "guide", "aux_loss")}
