"""A request's options for how its text is spoken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SLOWEST, FASTEST = 0.25, 4.0
"""The range of speaking rates; 1 is the voice's own."""


@dataclass(frozen=True, kw_only=True)
class SpeechOptions:
    """How a text is spoken. `speed`: 2 is twice as fast. `lexicon`: phonemes of words, written in ARPAbet or IPA.

    Raises ValueError for a speed out of range.
    """

    speed: float = 1.0
    lexicon: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not SLOWEST <= self.speed <= FASTEST:
            raise ValueError(f"speed is {self.speed}; it must be from {SLOWEST} to {FASTEST:g}")


NO_OPTIONS = SpeechOptions()
"""The voice's own speed and pronunciations."""
