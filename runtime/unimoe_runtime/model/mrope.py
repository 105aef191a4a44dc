"""M-RoPE positions of prompts with video (Qwen2-VL, arXiv 2409.12191; absolute time: Qwen2.5-VL, 2502.13923).

B rows · T positions
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.errors import PromptError
from unimoe_runtime.vision.tower import Grid, VisionConfig


def video_positions(
    ids_BT: NDArray[np.int64],
    mask_BT: NDArray[np.bool_],
    grids: Sequence[Grid],
    seconds_per_grid: Sequence[float],
    config: VisionConfig,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """positions_3BT (time, row, column) of a prompt, and first_position_B, where the audio begins.

    Each text token advances all three axes by one. A clip's tokens follow the text before them: they have the time of
    their grid step in units of 1 / `tokens_per_second`, and their row and column. Text continues after the largest of
    these. Padded positions are 1. As in the published model, a grid step lasts whole seconds, rounded down.

    `grids` and `seconds_per_grid` list the clips in the order of the rows, and of the tokens in a row.
    Raises PromptError if the prompt's video tokens do not match the clips.
    """
    positions_3BT = np.ones((3, *ids_BT.shape), dtype=np.int64)
    clips = list(zip(grids, seconds_per_grid, strict=True))
    next_clip = 0
    first_positions = []
    for row, (ids_T, mask_T) in enumerate(zip(ids_BT, mask_BT, strict=True)):
        is_video = ids_T[mask_T] == config.video_token_id
        parts: list[NDArray[np.int64]] = []
        place, base = 0, 0
        while place < len(is_video):
            if not is_video[place]:
                length = int(np.argmax(is_video[place:])) if is_video[place:].any() else len(is_video) - place
                part = np.tile(np.arange(length), (3, 1))
            else:
                if next_clip == len(clips):
                    raise PromptError(f"the prompt has video tokens for more clips than the {len(clips)} given")
                part = _clip_positions(*clips[next_clip], config)
                length = part.shape[1]
                if not is_video[place : place + length].all() or place + length > len(is_video):
                    raise PromptError(f"clip {next_clip} has {length} video tokens, the prompt has fewer places for it")
                next_clip += 1
            parts.append(part + base)
            base += int(part.max()) + 1
            place += length
        if parts:
            positions_3BT[:, row, mask_T] = np.concatenate(parts, axis=1)
        first_positions.append(base)
    if next_clip != len(clips):
        raise PromptError(f"the prompt has video tokens for {next_clip} clips, {len(clips)} are given")
    return positions_3BT.astype(np.float32), np.array(first_positions, dtype=np.float32)


def _clip_positions(grid: Grid, seconds_per_grid: float, config: VisionConfig) -> NDArray[np.int64]:
    steps, height, width = grid[0], grid[1] // config.spatial_merge_size, grid[2] // config.spatial_merge_size
    time, row, column = np.indices((steps, height, width))
    time = (time * int(seconds_per_grid) * config.tokens_per_second).astype(np.int64)
    return np.stack([time.ravel(), row.ravel(), column.ravel()])
