"""The settings of a calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Self, get_type_hints

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.records import check_value

METHODS: Final = ("auto", "max", "percentile", "entropy", "mse")
FALLBACK_EFFECTS: Final[Mapping[str, str]] = {
    "weight-only": "their weights alone are quantized",
    "nearest": "the nearest rows give their ranges",
    "float": "they stay fp32",
}
FALLBACKS: Final = tuple(FALLBACK_EFFECTS)
SCHEMES: Final = ("w8a8", "w8", "w4", "fp8")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One calibration.

    `target` is a row of the table of targets. `scheme` of weights and activations: None takes the target's first.
    `method` finds an input's range; `auto` takes for each input the method with the least output error. An expert that
    received fewer than `floor` tokens gets `fallback`, or with `strict` fails the calibration. The limits keep the most
    sensitive graphs in higher precision: bytes of the language model's graphs, milliseconds of a decode step, loss as
    the mean divergence of the logits. `data`: texts and recordings as in `read_data`; None takes the bundle's own small
    set. `cache_dir`: where statistics are kept between runs; None keeps none. `flips`: measure for each graph how many
    routing decisions its quantization changes; the limits imply it. `verify_steps`: compare the result with the
    original over this number of steps of each request; 0 compares nothing.
    """

    target: str = "cpu"
    scheme: str | None = None
    method: str = "auto"
    floor: int = 512
    strict: bool = False
    fallback: str = "weight-only"
    max_bytes: int | None = None
    max_latency_ms: float | None = None
    max_loss: float | None = None
    seed: int = 0
    data: Path | None = None
    cache_dir: Path | None = None
    flips: bool = True
    verify_steps: int = 60

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> Self:
        """From a recipe's fields. Raises ConfigError for an unknown field."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(recipe) - known)
        if unknown:
            raise ConfigError(f"[calibrate] has no field {unknown[0]!r}; it has {', '.join(sorted(known))}")
        return cls(**recipe)

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            object.__setattr__(self, name, check_value(getattr(self, name), kind, name))
        for name, allowed in (("method", METHODS), ("fallback", FALLBACKS), ("scheme", (None, *SCHEMES))):
            value = getattr(self, name)
            if value not in allowed:
                words = ", ".join(word for word in allowed if word)
                raise ConfigError(f"{name} is {value!r}; it must be one of {words}")
        if self.floor < 1:
            raise ConfigError(f"floor is {self.floor}; it must be at least 1")
        if self.verify_steps < 0:
            raise ConfigError(f"verify_steps is {self.verify_steps}; it must be 0 or more")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; it must be at least 0")
        for name in ("max_bytes", "max_latency_ms", "max_loss"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}; it must be above 0")
