"""Random segments of training clips, for training codecs.

Shapes: B rows, L samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from unimoe.data.corpus import Item


class SegmentShape(Protocol):
    """Settings that determine how segments are drawn."""

    @property
    def batch_size(self) -> int: ...

    @property
    def segment_frames(self) -> int: ...

    @property
    def music_share(self) -> float: ...


class Segments:
    """Random segments of training clips. All voices are equally likely, and so are all instruments."""

    def __init__(self, items: Sequence[Item], shape: SegmentShape, hop_samples: int) -> None:
        self.length = shape.segment_frames * hop_samples
        self.shape = shape
        self.sources: dict[str, dict[str, list[Item]]] = {"speech": {}, "music": {}}
        for item in items:
            self.sources[item.domain].setdefault(item.source, []).append(item)

    def batch(self, rng: np.random.Generator) -> Tensor:
        """pcm_BL. Silence pads shorter clips. The level varies by 12 dB."""
        rows = []
        for _ in range(self.shape.batch_size):
            domain = "music" if rng.random() < self.shape.music_share else "speech"
            pool = self.sources[domain] or self.sources["speech" if domain == "music" else "music"]
            clips = list(pool.values())[rng.integers(len(pool))]
            pcm_L = clips[rng.integers(len(clips))].pcm()
            start = rng.integers(max(1, len(pcm_L) - self.length + 1))
            row = pcm_L[start : start + self.length] * 10 ** (rng.uniform(-9, 3) / 20)
            rows.append(np.pad(row, (0, self.length - len(row))))
        return torch.from_numpy(np.stack(rows).astype(np.float32))
