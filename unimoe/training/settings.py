"""Settings of one training stage: steps, rates, batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from unimoe_runtime.records import Between, JsonRecord

Count = Annotated[int, Between(1, 1 << 40)]
Share = Annotated[float, Between(0, 1)]
_NOT_OF_THE_RESULT = ("num_threads", "log_every_steps", "save_every_s")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(JsonRecord):
    """Training settings of the token model. The defaults are the demo's recipe.

    `guide_layers`: the layers whose head 0 is guided. `guide_weight` times the mean of -log(attention mass on the sound
    that is being spoken) is added to the loss. `micro_batches`: parts of a step's batch, with accumulated gradients.
    Processes share the parts, so their number does not change the result. `sorted_batches`: batches whose clips are
    sorted by length together (`batches.epoch_batches`). `trained`: all weights, or only gate and shared experts.
    `bfloat16`: forward pass in bfloat16 by autocast on a CPU too, which is faster where it has instructions for that
    (AVX-512 BF16, AMX). `anneal_aux` False holds the auxiliary loss at its initial weight.
    """

    num_steps: Count = 6000
    warmup_steps: Annotated[int, Between(0, 1 << 40)] = 60
    batch_size: Count = 12
    micro_batches: Count = 1
    sorted_batches: Count = 40
    learning_rate: Annotated[float, Between(0, 10, above=True)] = 2e-3
    final_share: Share = 0.05
    weight_decay: Annotated[float, Between(0, 10)] = 0.05
    clip_norm: Annotated[float, Between(0, 1e6, above=True)] = 1.0
    token_noise: Share = 0.03
    text_drop: Share = 0.1
    guide_weight: Annotated[float, Between(0, 1e3)] = 0.3
    guide_layers: tuple[Annotated[int, Between(0, 4096)], ...] = (1, 2)
    trained: Literal["all", "gate and shared"] = "all"
    anneal_aux: bool = True
    bfloat16: bool = False
    num_threads: Annotated[int, Between(1, 1024)] = 2
    seed: Annotated[int, Between(0, 1 << 62)] = 0
    log_every_steps: Count = 25
    save_every_s: Annotated[float, Between(0, 1e9)] = 60.0

    @classmethod
    def from_sections(cls, *sections: Mapping[str, Any]) -> Self:
        """Settings from a recipe's sections; later sections replace fields. Raises ConfigError for an unknown field."""
        values: dict[str, Any] = {}
        for section in sections:
            values |= section
        return cls.from_dict(values)

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine decay to `final_share` of the rate."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps))
        share = self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * done)) / 2
        return self.learning_rate * share

    def of_the_result(self) -> dict[str, Any]:
        """Fields that affect the result. Resuming a save requires them to match."""
        return {name: value for name, value in self.to_dict().items() if name not in _NOT_OF_THE_RESULT}


def training_section(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's section [train] without the fields that concern the material."""
    return {name: value for name, value in recipe["train"].items() if name != "leave_out"}
