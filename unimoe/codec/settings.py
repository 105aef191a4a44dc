"""How codecs are trained, free of torch: the sections of a recipe hold exactly these fields."""

from __future__ import annotations

import math
from dataclasses import dataclass

from unimoe_runtime.errors import ConfigError
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
    save_every_s: float = 300.0

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


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(CodecTraining):
    """How a trained decoder is finished against discriminators.

    The decoder minimises `reconstruction_weight` x the losses of spectral training + what the discriminators say +
    `feature_weight` x the distance of their features; the discriminators begin alone, for `adversarial_from_step`
    steps.
    """

    num_steps: int = 15000
    codebooks_from_step: int = 0
    segment_frames: int = 40
    learning_rate: float = 3e-4
    final_learning_rate: float = 3e-5
    discriminator_learning_rate: float = 3e-4
    adversarial_from_step: int = 100
    reconstruction_weight: float = 5.0
    feature_weight: float = 2.0
    period_channels: tuple[int, ...] = (16, 32, 64, 128, 128)
    spectral_channels: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.period_channels) < 2:
            raise ConfigError(f"period_channels is {self.period_channels!r}; it must have at least two layers")
