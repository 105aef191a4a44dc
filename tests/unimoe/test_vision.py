"""The torch vision tower against recorded runs: Hugging Face's windowed tower, and the published code's tower.

P patches · V video tokens · C channels
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from unimoe.vision import VisionTower, load_vision
from unimoe_runtime.checkpoint.folder import open_checkpoint
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.vision.tower import Grid, tower_inputs

VECTORS = Path(__file__).parents[1] / "vectors"
RECORDED = load_file(VECTORS / "vision.safetensors")
GRIDS: list[Grid] = [(2, 12, 10), (1, 8, 6)]
TOLERANCE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def tower(reference_checkpoint: Path) -> VisionTower:
    return load_vision(open_checkpoint(reference_checkpoint))


def embed(tower: VisionTower, patches_PM: np.ndarray, grids: list[Grid], *, as_coded: bool = False) -> np.ndarray:
    """embeddings_VC in the clips' own order. In the published code every patch attends to the patches of all clips."""
    inputs, order_V = tower_inputs(patches_PM, grids, tower.config)
    if as_coded:
        inputs["window_mask_11PP"] = inputs["full_mask_11PP"] = np.ones_like(inputs["full_mask_11PP"])
    embeddings_VC = np.empty((len(order_V), tower.config.out_hidden_size), np.float32)
    embeddings_VC[order_V] = tower.run("vision", inputs)["embeddings_VC"]
    return embeddings_VC


@torch.no_grad()
def test_patch_embedding_as_recorded(tower: VisionTower) -> None:
    found = tower.patch_embed(torch.from_numpy(RECORDED["pixel_values_videos"])).numpy()
    np.testing.assert_allclose(found, RECORDED["patch_embed_out"], **TOLERANCE)


@pytest.mark.parametrize("kind", ["windowed", "as_coded"])
def test_tower_as_recorded(tower: VisionTower, kind: str) -> None:
    patches_PM = RECORDED["pixel_values_videos"]
    clips = {
        "both": (patches_PM, GRIDS),
        "video0": (patches_PM[:240], GRIDS[:1]),
        "video1": (patches_PM[240:], GRIDS[1:]),
    }
    for clip, (patches, grids) in clips.items():
        found = embed(tower, patches, grids, as_coded=kind == "as_coded")
        np.testing.assert_allclose(found, RECORDED[f"out_{kind}_{clip}"], err_msg=clip, **TOLERANCE)


def test_checkpoint_without_a_tower(tmp_path: Path) -> None:
    from tests.random_checkpoint import tiny_config, write_random_checkpoint

    checkpoint = open_checkpoint(write_random_checkpoint(tmp_path / "model", tiny_config()))
    with pytest.raises(CheckpointError, match="has no vision tower"):
        load_vision(checkpoint)
