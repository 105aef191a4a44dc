"""Random segments of training clips, for training codecs.

Shapes: B rows, L samples, K codebooks, T frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from unimoe.data.corpus import Item

_Clip = TypeVar("_Clip")


class SegmentShape(Protocol):
    """Settings that determine how segments are drawn."""

    @property
    def batch_size(self) -> int: ...

    @property
    def segment_frames(self) -> int: ...

    @property
    def music_share(self) -> float: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentBatch:
    """Samples real_BL of segments. `codes_BKT`: the tokens to decode; None stands for the codec's own.

    `first_row`: the place of the first segment in a whole batch.
    """

    real_BL: Tensor
    codes_BKT: Tensor | None = None
    first_row: int = 0

    def to(self, device: torch.device) -> SegmentBatch:
        codes_BKT = self.codes_BKT if self.codes_BKT is None else self.codes_BKT.to(device)
        return replace(self, real_BL=self.real_BL.to(device), codes_BKT=codes_BKT)

    def part(self, index: int, count: int) -> SegmentBatch:
        """One of `count` parts of a whole batch, as equal as possible."""
        first, end = (len(self.real_BL) * each // count for each in (index, index + 1))
        codes_BKT = self.codes_BKT if self.codes_BKT is None else self.codes_BKT[first:end]
        return SegmentBatch(real_BL=self.real_BL[first:end], codes_BKT=codes_BKT, first_row=first)


class SegmentSource(Protocol):
    """Draws batches of segments."""

    def batch(self, rng: np.random.Generator) -> SegmentBatch: ...


class ClipPool(Generic[_Clip]):
    """Clips by domain and source. All voices are equally likely, and so are all instruments."""

    def __init__(self, clips: Iterable[tuple[Item, _Clip]], music_share: float) -> None:
        self.music_share = music_share
        self.sources: dict[str, dict[str, list[_Clip]]] = {"speech": {}, "music": {}}
        for item, clip in clips:
            self.sources[item.domain].setdefault(item.source, []).append(clip)

    def draw(self, rng: np.random.Generator) -> _Clip:
        """A clip. Where a domain is absent, all clips are of the other."""
        domain = "music" if rng.random() < self.music_share else "speech"
        pool = self.sources[domain] or self.sources["speech" if domain == "music" else "music"]
        clips = list(pool.values())[rng.integers(len(pool))]
        return clips[rng.integers(len(clips))]


class Segments:
    """Random segments of training clips."""

    def __init__(self, items: Sequence[Item], shape: SegmentShape, hop_samples: int) -> None:
        self.length = shape.segment_frames * hop_samples
        self.shape = shape
        self.pool = ClipPool(((item, item) for item in items), shape.music_share)

    def batch(self, rng: np.random.Generator) -> SegmentBatch:
        """Samples without codes. Silence pads shorter clips. The level varies by 12 dB."""
        rows = []
        for _ in range(self.shape.batch_size):
            pcm_L = self.pool.draw(rng).pcm()
            start = rng.integers(max(1, len(pcm_L) - self.length + 1))
            row = pcm_L[start : start + self.length] * 10 ** (rng.uniform(-9, 3) / 20)
            rows.append(np.pad(row, (0, self.length - len(row))))
        return SegmentBatch(real_BL=torch.from_numpy(np.stack(rows).astype(np.float32)))
