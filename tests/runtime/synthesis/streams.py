"""What the tests of streams share."""

from __future__ import annotations

from typing import Any

import numpy as np

from unimoe_runtime.synthesis.chunks import Chunk

REQUEST: dict[str, Any] = {"task": "music", "text": "flute, 120 bpm: C4 E4", "seed": 3}


def joined(chunks: list[Chunk]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *[chunk.pcm_L for chunk in chunks]])
