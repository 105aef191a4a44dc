"""Rotary position embedding: the cosines and sines that every trunk takes, computed once a step.

B rows · T positions · D head dimension
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.config import ModelConfig

_AHEAD: Final = 64


def rotary(positions: NDArray[np.floating], config: ModelConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """cos_BTD and sin_BTD for positions [B, T], or [3, B, T] (time, height, width) with M-RoPE.

    Positions may be fractions. Both halves of D hold the same angles, for the rotate-half convention
    x * cos + concat(-x2, x1) * sin. With `mrope_sections` (t, h, w), the first t frequencies use the time
    position, the next h the height, the last w the width (Qwen2-VL, arXiv 2409.12191).
    """
    frequency_D = _frequencies(config.head_dim, config.rope_theta)
    positions = np.asarray(positions, dtype=np.float32)
    if positions.ndim == 2:
        angles_BTD = positions[..., None] * frequency_D
    else:
        half = config.head_dim // 2
        axis_of_frequency = np.tile(np.repeat(np.arange(3), config.mrope_sections or (half, 0, 0)), 2)
        angles_BTD = np.moveaxis(positions, 0, -1)[..., axis_of_frequency] * frequency_D
    return np.cos(angles_BTD), np.sin(angles_BTD)


class RotarySteps:
    """`rotary` of consecutive decode steps, computed for many steps at once: positions grow by 1 per step."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._expected: list[list[float]] = []
        self._next = 0
        self._cos_BSD = self._sin_BSD = np.zeros((0, 0, config.head_dim), dtype=np.float32)

    def at(self, position_B: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """cos_B1D and sin_B1D of the positions of one step, the same on all axes of M-RoPE."""
        index = self._next
        if index == len(self._expected) or self._expected[index] != position_B.tolist():
            positions_BS = position_B[:, None] + np.arange(_AHEAD, dtype=np.float32)
            self._expected, index = positions_BS.T.tolist(), 0
            if self._config.mrope_sections:
                positions_BS = np.broadcast_to(positions_BS, (3, *positions_BS.shape))
            self._cos_BSD, self._sin_BSD = rotary(positions_BS, self._config)
        self._next = index + 1
        return self._cos_BSD[:, index : index + 1], self._sin_BSD[:, index : index + 1]


@lru_cache(maxsize=8)
def _frequencies(head_dim: int, theta: float) -> NDArray[np.float32]:
    """theta^(-2i/D), repeated for both halves."""
    half = head_dim // 2
    frequencies: NDArray[np.float32] = theta ** (-np.arange(half, dtype=np.float32) / np.float32(half))
    return np.tile(frequencies, 2)
