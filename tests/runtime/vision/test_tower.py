"""The host's side of the vision tower: patches, windows, angles, masks, against recorded values and properties.

F frames · P patches · M values of a patch · V video tokens
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.runtime.tiny_vision import GRIDS, tiny_vision
from unimoe_runtime.errors import BundleError, ConfigError, VideoError
from unimoe_runtime.vision.tower import (
    BundleVision,
    VisionConfig,
    patchify,
    rotation_angles,
    tower_inputs,
    window_order,
)
from unimoe_runtime.vision.video import Video

VECTORS = Path(__file__).parents[2] / "vectors"
RECORDED = load_file(VECTORS / "vision.safetensors")
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def test_window_order_and_angles_as_recorded() -> None:
    assert [tuple(grid) for grid in RECORDED["grid_thw"]] == GRIDS
    order_V, lengths = window_order(GRIDS, tiny_vision())
    np.testing.assert_array_equal(order_V, RECORDED["window_index"])
    # The published boundaries repeat the last one, for an empty window.
    np.testing.assert_array_equal([0, *lengths.cumsum()], np.unique(RECORDED["cu_window_seqlens"]))
    np.testing.assert_array_equal(rotation_angles(GRIDS, tiny_vision()), RECORDED["rotary_pos_emb"])


def test_masks_stay_within_windows_and_grid_steps() -> None:
    config = tiny_vision()
    inputs, order_V = tower_inputs(RECORDED["pixel_values_videos"], GRIDS, config)
    window, full = inputs["window_mask_11PP"][0, 0], inputs["full_mask_11PP"][0, 0]
    assert window.shape == full.shape == (288, 288)
    assert not (window & ~full).any()
    assert sorted(set(full.sum(0).tolist())) == [48, 120] and window.sum(0).max() == 64
    place = order_V.repeat(config.merge_unit) * config.merge_unit + np.tile(np.arange(config.merge_unit), len(order_V))
    np.testing.assert_array_equal(inputs["patches_PM"], RECORDED["pixel_values_videos"][place])
    np.testing.assert_allclose(inputs["cos_PD"] ** 2 + inputs["sin_PD"] ** 2, 1, atol=1e-6)


def test_a_patch_holds_its_pixels_and_an_odd_frame_is_repeated() -> None:
    config = tiny_vision()  # patches of 4 × 4 pixels and two frames, squares of 2 × 2 patches
    frames = np.random.default_rng(0).integers(256, size=(3, 16, 24, 3), dtype=np.uint8)
    patches_PM, grid = patchify(frames, config)
    assert grid == (2, 4, 6) and patches_PM.shape == (48, 96) and patches_PM.dtype == np.float32
    patches = patches_PM.reshape(2, 2, 3, 2, 2, 3, 2, 4, 4)
    normalised = (frames / 255 - MEAN) / DEVIATION
    # Step 0, square (1, 2), patch (0, 1) in it, green, second frame.
    np.testing.assert_allclose(patches[0, 1, 2, 0, 1, 1, 1], normalised[1, 8:12, 20:24, 1], atol=1e-6)
    np.testing.assert_array_equal(patches[1, ..., 0, :, :], patches[1, ..., 1, :, :])
    np.testing.assert_allclose(patches[1, 0, 0, 1, 0, 2, 0], normalised[2, 4:8, 0:4, 2], atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 16, 16, 3), (2, 16, 16, 1), (16, 16, 3), (2, 12, 16, 3), (2, 16, 20, 3)])
def test_frames_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(VideoError):
        patchify(np.zeros(shape, np.uint8), tiny_vision())


def test_embedding_restores_the_order_and_runs_step_by_step() -> None:
    """A tower that maps each video token to the mean of its patches."""
    config = tiny_vision()
    calls = []

    def run(graph: str, inputs: Any) -> dict[str, np.ndarray]:
        calls.append((graph, len(inputs["patches_PM"])))
        mean_V = inputs["patches_PM"].mean(axis=1).reshape(-1, 4).mean(axis=1)
        return {"embeddings_VC": np.repeat(mean_V[:, None], config.out_hidden_size, axis=1)}

    frames = np.random.default_rng(1).integers(256, size=(5, 48, 40, 3), dtype=np.uint8)
    vision = BundleVision(config.to_dict(), run)
    features = vision.embed(Video(frames_FHWC=frames, seconds_per_frame=1.0))
    assert calls == [("vision", 120)] * 3
    assert features.grid == (3, 12, 10) and features.seconds_per_grid == 2.0
    assert features.embeddings_VC.shape == (config.num_tokens(features.grid), 64) == (90, 64)
    patches_PM, _ = patchify(frames, config)
    np.testing.assert_allclose(features.embeddings_VC[:, 0], patches_PM.reshape(90, -1).mean(axis=1), atol=1e-6)
    with pytest.raises(VideoError, match=r"a frame every 0\.25 s; the model tells apart at most 2 frames a second"):
        vision.embed(Video(frames_FHWC=frames, seconds_per_frame=0.25))


def test_descriptions_that_do_not_hold() -> None:
    run: Any = None
    with pytest.raises(BundleError, match="has no vision tower"):
        BundleVision(None, run)
    for change in ({"num_heads": 0}, {"depth": 3}, {"hidden_size": 30}, {"full_attention_blocks": [7]}):
        with pytest.raises(BundleError, match="vision is damaged"):
            BundleVision({**tiny_vision().to_dict(), **change}, run)
    with pytest.raises(ConfigError, match="in_channels"):
        VisionConfig.from_dict({**tiny_vision().to_dict(), "in_channels": 1})
