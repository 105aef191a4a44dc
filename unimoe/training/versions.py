"""Slightly different versions of spoken clips, which have other tokens for the same words.

A codec's frames start elsewhere in a clip without its first milliseconds, and a clip that is stretched by a few percent
has its pitch and pace changed. The model then cannot learn a small corpus by heart.

Shape suffix: L samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Annotated, Any

import numpy as np

from unimoe.data.corpus import Item
from unimoe_runtime.audio.files import resample
from unimoe_runtime.errors import ConfigError
from unimoe_runtime.records import Between, JsonRecord


@dataclass(frozen=True, kw_only=True)
class VersionRecipe(JsonRecord):
    """One version for each pair: `shift_ms` are cut from the start, and the rest is played `stretch` times as long."""

    shift_ms: tuple[Annotated[float, Between(0, 100)], ...] = ()
    stretch: tuple[Annotated[float, Between(0.8, 1.25)], ...] = ()

    def check_together(self) -> None:
        if len(self.shift_ms) != len(self.stretch):
            raise ConfigError(
                f"shift_ms has {len(self.shift_ms)} values and stretch {len(self.stretch)}: give equally many"
            )


@dataclass(frozen=True, kw_only=True)
class Version(Item):
    """A clip's version. It computes its samples from `played` samples of the clip's audio when they are asked for."""

    played: int
    sample_rate_hz: int
    stretched_rate_hz: int

    def samples(self) -> np.ndarray:
        played_L = self.audio_L[self.offset : self.offset + self.played].astype(np.float32) / np.float32(32768)
        pcm_L = resample(played_L, self.sample_rate_hz, self.stretched_rate_hz)
        pcm_L = np.pad(pcm_L, (0, max(0, self.length - len(pcm_L))))[: self.length]
        return np.clip(np.round(pcm_L * 32768), -32768, 32767).astype(np.int16)


def versions_of(items: Iterable[Item], recipe: VersionRecipe, sample_rate_hz: int) -> list[Version]:
    """The versions of every spoken training clip whose phonemes have recorded times. Others have none."""
    timed = [item for item in items if item.split == "train" and item.word_numbers]
    return [
        version_of(item, shift_ms / 1000, stretch, sample_rate_hz)
        for shift_ms, stretch in zip(recipe.shift_ms, recipe.stretch, strict=True)
        for item in timed
    ]


def version_of(item: Item, shift_s: float, stretch: float, sample_rate_hz: int) -> Version:
    """The clip without its first `shift_s`, `stretch` times as long, with its phonemes' times changed alike."""
    cut = min(round(shift_s * sample_rate_hz), item.length)
    rate_hz = round(stretch * sample_rate_hz)
    stretch = rate_hz / sample_rate_hz
    changed: dict[str, Any] = {
        "offset": item.offset + cut,
        "length": round((item.length - cut) * stretch),
        "phonemes": tuple(
            (phoneme, stretch * max(0.0, end_s - cut / sample_rate_hz)) for phoneme, end_s in item.phonemes
        ),
        "clip": "",
    }
    kept: dict[str, Any] = {
        field.name: getattr(item, field.name) for field in fields(Item) if field.name not in changed
    }
    return Version(
        **kept, **changed, played=item.length - cut, sample_rate_hz=sample_rate_hz, stretched_rate_hz=rate_hz
    )
