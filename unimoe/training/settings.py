"""How one stage of training is run: steps, rates, batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from unimoe_runtime.errors import ConfigError

_NOT_OF_THE_RESULT = ("num_threads", "log_every_steps", "save_every_s")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the token model is trained. The defaults are the demo's recipe.

    `guide_layers`: the layers whose head 0 is guided; `guide_weight` times the mean of -log(attention mass on what is
    being spoken) is added to the loss. `micro_batches`: parts in which a step's batch is worked, the gradient
    accumulated over them; processes share the parts, so their number does not change the result. `sorted_batches`:
    batches whose clips are sorted by length together (`batches.epoch_batches`). `trained`: all weights, or those of
    gate and shared experts alone. `anneal_aux` False holds the auxiliary loss at the weight that it starts with.
    """

    num_steps: int = 6000
    warmup_steps: int = 60
    batch_size: int = 12
    micro_batches: int = 1
    sorted_batches: int = 40
    learning_rate: float = 2e-3
    final_share: float = 0.05
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    token_noise: float = 0.03
    text_drop: float = 0.1
    guide_weight: float = 0.3
    guide_layers: tuple[int, ...] = (1, 2)
    trained: Literal["all", "gate and shared"] = "all"
    anneal_aux: bool = True
    num_threads: int = 2
    seed: int = 0
    log_every_steps: int = 25
    save_every_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "micro_batches", "sorted_batches", "num_threads", "log_every_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be at least 1")
        for name in ("token_noise", "text_drop", "final_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be in 0 … 1")
        if self.trained not in ("all", "gate and shared"):
            raise ConfigError(f"trained is {self.trained!r}; it must be 'all' or 'gate and shared'")

    @classmethod
    def from_sections(cls, *sections: Mapping[str, Any]) -> Self:
        """Of a recipe's sections, the later ones replacing fields. Raises ConfigError for a field there is not."""
        values: dict[str, Any] = {}
        for section in sections:
            values |= section
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"training has no field {unknown[0]!r}; known: {', '.join(sorted(known))}")
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**values)

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine to `final_share` of the rate."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps))
        share = self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * done)) / 2
        return self.learning_rate * share

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, for a checkpoint's provenance."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def of_the_result(self) -> dict[str, Any]:
        """The fields that decide what comes out: a save of others cannot be gone on with."""
        return {name: value for name, value in self.to_dict().items() if name not in _NOT_OF_THE_RESULT}
