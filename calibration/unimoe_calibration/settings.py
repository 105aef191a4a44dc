"""What a calibration is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from unimoe_runtime.errors import ConfigError

METHODS: Final = ("auto", "max", "percentile", "entropy", "mse")
FALLBACKS: Final = ("weight-only", "nearest", "float")
SCHEMES: Final = ("w8a8", "w8", "w4", "fp8")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One calibration.

    `target` is a row of the table of targets. `scheme` of weights and activations: None takes the target's first.
    `method` finds an input's range; `auto` takes for each the one whose output errs least. An expert that fewer than
    `floor` tokens were sent to gets `fallback`, or with `strict` fails the calibration. The limits leave the
    costliest graphs in higher precision: bytes of the language model's graphs, milliseconds a decode step, loss as
    the mean divergence of the logits.
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

    def __post_init__(self) -> None:
        for name, allowed in (("method", METHODS), ("fallback", FALLBACKS), ("scheme", (None, *SCHEMES))):
            value = getattr(self, name)
            if value not in allowed:
                words = ", ".join(word for word in allowed if word)
                raise ConfigError(f"{name} is {value!r}; it must be one of {words}")
        if self.floor < 1:
            raise ConfigError(f"floor is {self.floor}; it must be at least 1")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; it must be at least 0")
        for name in ("max_bytes", "max_latency_ms", "max_loss"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}; it must be above 0")
