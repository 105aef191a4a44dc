"""Positions of text with embedded video, against the published model's.

B rows · T positions
"""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.runtime.tiny_vision import GRIDS, VECTORS, tiny_vision
from unimoe_runtime.errors import PromptError
from unimoe_runtime.model.mrope import video_positions
from unimoe_runtime.vision.tower import Grid

RECORDED = load_file(VECTORS / "video_mrope.safetensors")


def expected(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Recorded positions, and where audio begins: the recorded delta counts from the padded length."""
    positions_3BT = RECORDED[f"position_ids.{name}"]
    return positions_3BT, RECORDED[f"rope_deltas.{name}"][:, 0] + positions_3BT.shape[2]


@pytest.mark.parametrize("seconds", [None, 0.5, 1.0, 1.5, 2.0])
def test_text_and_video_as_recorded(seconds: float | None) -> None:
    assert [tuple(grid) for grid in RECORDED["video_grid_thw"]] == GRIDS
    found, first_B = video_positions(
        RECORDED["input_ids"], RECORDED["attention_mask"] == 1, GRIDS, [seconds or 1.0] * 2, tiny_vision()
    )
    positions_3BT, first = expected(f"spg_{'none' if seconds is None else seconds}")
    np.testing.assert_array_equal(found, positions_3BT)
    np.testing.assert_array_equal(first_B, first)
    assert found.dtype == first_B.dtype == np.float32


@pytest.mark.parametrize("name", ["text_only", "no_mask"])
def test_text_alone_as_recorded(name: str) -> None:
    mask_BT = np.ones((2, 75), bool) if name == "no_mask" else RECORDED["attention_mask"] == 1
    found, first_B = video_positions(np.zeros((2, 75), np.int64), mask_BT, [], [], tiny_vision())
    positions_3BT, first = expected(name)
    np.testing.assert_array_equal(found, positions_3BT)
    np.testing.assert_array_equal(first_B, first)


def test_two_clips_in_one_row_and_padding_that_looks_like_video() -> None:
    config = tiny_vision()
    video = config.video_token_id
    ids_BT = np.array([[video, 1] + [video] * 12 + [video] * 6 + [2]])
    mask_BT = np.ones(ids_BT.shape, bool)
    mask_BT[0, 0] = False
    found, first_B = video_positions(ids_BT, mask_BT, [(1, 8, 6), (2, 2, 6)], [1.0, 2.0], config)
    # Text at 0; the first clip has 1 … 4, so the second begins at 5, and its second step comes 2 s · 2 later.
    np.testing.assert_array_equal(found[0, 0], [1, 0] + [1] * 12 + [5] * 3 + [9] * 3 + [10])
    np.testing.assert_array_equal(found[2, 0], [1, 0] + [1, 2, 3] * 4 + [5, 6, 7] * 2 + [10])
    assert first_B == 11


@pytest.mark.parametrize(
    ("grids", "message"),
    [
        ([], "more clips than the 0 given"),
        (GRIDS[:1], "more clips than the 1 given"),
        ([*GRIDS, (1, 2, 2)], "for 2 clips, 3 are given"),
        ([(3, 12, 10), GRIDS[1]], "clip 0 has 90 video tokens, the prompt has fewer places"),
        ([(1, 12, 10), (1, 12, 10)], "more clips than the 2 given"),
    ],
)
def test_tokens_that_are_not_the_clips(grids: list[Grid], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        video_positions(
            RECORDED["input_ids"], RECORDED["attention_mask"] == 1, grids, [1.0] * len(grids), tiny_vision()
        )
