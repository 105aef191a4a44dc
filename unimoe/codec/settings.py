"""Training settings of codecs, without torch. The sections of a recipe hold exactly these fields."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.records import Between, JsonRecord, Length

Count = Annotated[int, Between(1, 1 << 40)]
Rate = Annotated[float, Between(0, 10)]
Share = Annotated[float, Between(0, 1)]
Weight = Annotated[float, Between(0, 1e6)]


@dataclass(frozen=True, kw_only=True)
class CodecTraining(JsonRecord):
    """Training settings of the codec. The defaults are the demo's recipe."""

    num_steps: Count = 3600
    warmup_steps: Annotated[int, Between(0, 1 << 40)] = 100
    codebooks_from_step: Annotated[int, Between(0, 1 << 40)] = 250
    batch_size: Count = 8
    segment_frames: Annotated[int, Between(16, 1 << 20)] = 80
    music_share: Share = 0.45
    learning_rate: Rate = 1.5e-3
    final_learning_rate: Rate = 5e-5
    weight_decay: Annotated[float, Between(0, 10)] = 0.01
    commitment_weight: Weight = 0.25
    envelope_weight: Weight = 1.0
    clip_norm: Annotated[float, Between(0, 1e6, above=True)] = 1.0
    seed: Annotated[int, Between(0, 1 << 62)] = 0
    save_every_s: Annotated[float, Between(0, 1e9)] = 300.0

    def check_together(self) -> None:
        if self.codebooks_from_step >= self.num_steps:
            raise ConfigError(f"codebooks_from_step is {self.codebooks_from_step!r}; it must be below num_steps")

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine decay to the final rate."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps)
        low, high = self.final_learning_rate, self.learning_rate
        return low + (high - low) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(CodecTraining):
    """Settings for finishing a trained decoder against discriminators.

    The decoder minimises `reconstruction_weight` x the losses of spectral training + the discriminators' scores +
    `feature_weight` x the distance of their features. For the first `adversarial_from_step` steps only the
    discriminators train.
    """

    num_steps: Count = 15000
    codebooks_from_step: Annotated[int, Between(0, 1 << 40)] = 0
    segment_frames: Annotated[int, Between(16, 1 << 20)] = 40
    learning_rate: Rate = 3e-4
    final_learning_rate: Rate = 3e-5
    discriminator_learning_rate: Rate = 3e-4
    adversarial_from_step: Annotated[int, Between(0, 1 << 40)] = 100
    reconstruction_weight: Weight = 5.0
    feature_weight: Weight = 2.0
    period_channels: Annotated[tuple[Annotated[int, Between(1, 1 << 16)], ...], Length(2, 64)] = (16, 32, 64, 128, 128)
    spectral_channels: Annotated[int, Between(1, 1 << 16)] = 12


@dataclass(frozen=True, kw_only=True)
class PredictedTraining(CodecTraining):
    """Settings for training a decoder on tokens that a token model predicts.

    `true_share` of the segments have the clip's own tokens instead. `speech_clips` and `music_clips`: training clips
    whose tokens are predicted, drawn with `seed`; without a number, all of them.
    """

    num_steps: Count = 7000
    codebooks_from_step: Annotated[int, Between(0, 1 << 40)] = 0
    segment_frames: Annotated[int, Between(16, 1 << 20)] = 48
    music_share: Share = 0.35
    envelope_weight: Weight = 0.0
    learning_rate: Rate = 8e-4
    final_learning_rate: Rate = 4e-5
    true_share: Share = 0.25
    speech_clips: Count | None = None
    music_clips: Count | None = None
