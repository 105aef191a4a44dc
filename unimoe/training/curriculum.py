"""The three-stage curriculum: a dense base, a specialist for each domain, their merger, its warm-up, joint training.

    base/               a short dense run on all clips: the common origin of the specialists
    specialist-DOMAIN/  starts from the base, on all clips of that domain (imbalanced)
    merge/              the Mixture of Experts made from the specialists; no training
    warmup/             only gate and shared experts, on the balanced set
    joint/              all weights, on the balanced set, the auxiliary loss annealed

Each stage is a folder with `training.pt` and reads that of its predecessor. A finished stage is skipped, an interrupted
one resumes (arXiv 2510.13344).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from unimoe.config import DOMAINS
from unimoe.model import UniMoE
from unimoe.training.examples import Example
from unimoe.training.merging import dense_config, merge
from unimoe.training.saves import SAVE, read_save, was_trained_with, write_save
from unimoe.training.settings import TrainingConfig, training_section
from unimoe.training.trainer import Trainer, evaluate
from unimoe.world import World
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import CheckpointError, ConfigError
from unimoe_runtime.files.atomic import write_atomically

_HELD_OUT = "held_out.json"
STAGES = ("base", *(f"specialist-{domain}" for domain in DOMAINS), "merge", "warmup", "joint")


@dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """The resulting model, the training of each stage, and the seed for merging and balancing.

    The specialists' feed-forward layer is as wide as a domain's share of the routed experts. `stages` has every name
    of `STAGES` but "merge". `balanced_clips`: number of clips of each domain in the balanced set. Clips repeat where a
    domain has fewer. Without it, each domain has as many clips as the smallest one.
    """

    model: ModelConfig
    stages: Mapping[str, TrainingConfig]
    balanced_clips: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        missing = [name for name in STAGES if name != "merge" and name not in self.stages]
        if missing:
            raise ConfigError(f"the curriculum has no settings for the stage {missing[0]}")
        if self.balanced_clips and set(self.balanced_clips) != set(DOMAINS):
            raise ConfigError(f"[balance] names {', '.join(self.balanced_clips)}; it must name {', '.join(DOMAINS)}")

    @property
    def dense(self) -> ModelConfig:
        return dense_config(self.model, len(DOMAINS))

    def model_of(self, stage: str) -> ModelConfig:
        """A stage's model: the Mixture of Experts from the merger on, dense before."""
        return self.model if STAGES.index(stage) >= STAGES.index("merge") else self.dense

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any], model: ModelConfig, seed: int = 0) -> CurriculumConfig:
        """From the sections [train] (fields of all stages), [base], [specialist] (and its tables by domain), [warmup],
        [joint], where later sections replace fields of earlier ones. [balance] gives `balanced_clips`."""
        common = training_section(recipe)
        specialist = recipe.get("specialist", {})
        of_all = {name: value for name, value in specialist.items() if not isinstance(value, Mapping)}
        sections = {
            "base": [recipe.get("base", {})],
            **{f"specialist-{domain}": [of_all, specialist.get(domain, {})] for domain in DOMAINS},
            "warmup": [{"trained": "gate and shared", "anneal_aux": False}, recipe.get("warmup", {})],
            "joint": [recipe.get("joint", {})],
        }
        stages = {name: TrainingConfig.from_sections(common, *parts) for name, parts in sections.items()}
        return cls(model=model, stages=stages, seed=seed, balanced_clips=recipe.get("balance", {}))


class Curriculum:
    """Runs stages in the folder `work`. `held_out`: examples whose losses are written after each stage."""

    def __init__(
        self,
        config: CurriculumConfig,
        work: Path,
        examples: Sequence[Example],
        held_out: Sequence[Example] = (),
        world: World | None = None,
    ) -> None:
        self.config, self.work, self.held_out = config, work, held_out
        self.world = world or World()
        self._examples = examples

    def run(self, stages: Sequence[str] = STAGES) -> None:
        """Run stages in order. Raises CheckpointError where a stage's predecessor is unfinished."""
        for stage in stages:
            if stage == "merge":
                self._merge()
            else:
                self._train(stage)

    def weights(self, stage: str) -> dict[str, Tensor]:
        """A finished stage's weights, by the model's names."""
        path = self.work / stage / SAVE
        if not path.exists():
            raise CheckpointError(f"{path} is missing: run the stage {stage} first")
        state = read_save(path)
        if stage != "merge" and state["step"] < self.config.stages[stage].num_steps:
            raise CheckpointError(f"{path} is at step {state['step']}: run the stage {stage} to its end first")
        weights: dict[str, Tensor] = state["model"]
        return weights

    def model(self, stage: str = "joint") -> UniMoE:
        """A finished stage's model, in evaluation mode."""
        model = UniMoE(self.config.model_of(stage))
        model.load_state_dict(self.weights(stage))
        return model.eval()

    def _train(self, stage: str) -> None:
        if self._is_finished(stage):
            return
        initial = None if stage == "base" else self.weights(_ORIGIN.get(stage, "base"))
        trainer = Trainer(
            self.config.model_of(stage), self.config.stages[stage], self.data(stage), initial=initial, world=self.world
        )
        trainer.run(self.work / stage, title=stage)
        if self.held_out:
            losses = evaluate(trainer, self.held_out)
            if self.world.is_first:
                text = json.dumps({name: round(value, 5) for name, value in losses.items()}, indent=1)
                write_atomically(self.work / stage / _HELD_OUT, text + "\n")

    def _is_finished(self, stage: str) -> bool:
        path = self.work / stage / SAVE
        if not path.exists() or (self.held_out and not (path.parent / _HELD_OUT).exists()):
            return False
        save, settings = read_save(path), self.config.stages[stage]
        # Where settings differ, the trainer reports it.
        return was_trained_with(save, settings) and bool(save["step"] >= settings.num_steps)

    def _merge(self) -> None:
        path = self.work / "merge" / SAVE
        specialists = [self.weights(f"specialist-{domain}") for domain in DOMAINS]
        if self.world.is_first and not path.exists():
            merged = merge(specialists, self.config.model, seed=self.config.seed)
            write_save(path, self.config.model, {"model": merged})
        self.world.wait()

    def data(self, stage: str) -> Sequence[Example]:
        """The examples that a stage is trained on."""
        if stage == "base":
            return self._examples
        if stage in ("warmup", "joint"):
            return balanced(self._examples, self.config.seed, self.config.balanced_clips)
        domain = stage.removeprefix("specialist-")
        return [example for example in self._examples if example.domain == domain]


_ORIGIN = {"warmup": "merge", "joint": "warmup"}


def balanced(examples: Sequence[Example], seed: int, clips: Mapping[str, int] | None = None) -> list[Example]:
    """`clips` examples of each domain, drawn with `seed`, in their old order (`CurriculumConfig.balanced_clips`)."""
    places = {
        domain: [at for at, example in enumerate(examples) if example.domain == domain]
        for domain in {example.domain for example in examples}
    }
    smallest = min(map(len, places.values()))
    rng = np.random.default_rng(seed)
    # np.resize repeats a domain's clips. All occur equally often, except in the last round.
    chosen = [
        np.resize(rng.permutation(places[domain]), clips[domain] if clips else smallest) for domain in sorted(places)
    ]
    return [examples[at] for at in np.sort(np.concatenate(chosen))]
