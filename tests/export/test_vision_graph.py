"""The vision graph: recorded towers, the oracle, blocks left out, changing numbers of patches.

P patches · V video tokens · C channels
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.export.running import run_graph, save_values
from unimoe_export.graphs.vision import vision_graph
from unimoe_export.vision_layout import vision_tensor
from unimoe_runtime.backends import numpy_vision
from unimoe_runtime.checkpoint import open_checkpoint
from unimoe_runtime.vision import Grid, VisionConfig, tower_inputs, vision_weight_shapes

VECTORS = Path(__file__).parents[1] / "vectors"
RECORDED = load_file(VECTORS / "vision.safetensors")
GRIDS: list[Grid] = [(2, 12, 10), (1, 8, 6)]
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def written(reference_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, VisionConfig]:
    """The recorded tower's graph, over its weights in the bundle's layout."""
    checkpoint = open_checkpoint(reference_checkpoint)
    assert checkpoint.vision is not None
    path = tmp_path_factory.mktemp("vision") / "vision.onnx"
    values = {name: vision_tensor(checkpoint, name) for name in vision_weight_shapes(checkpoint.vision)}
    assert {name: value.shape for name, value in values.items()} == vision_weight_shapes(checkpoint.vision)
    weights = save_values(path.with_suffix(".safetensors"), values)
    vision_graph(checkpoint.vision, weights).save(path)
    return path, checkpoint.vision


@pytest.mark.parametrize("kind", ["windowed", "as_coded"])
@pytest.mark.parametrize("clip", ["both", "video0", "video1"])
def test_graph_as_recorded(written: tuple[Path, VisionConfig], kind: str, clip: str) -> None:
    path, config = written
    patches_PM = RECORDED["pixel_values_videos"]
    patches, grids = {
        "both": (patches_PM, GRIDS),
        "video0": (patches_PM[:240], GRIDS[:1]),
        "video1": (patches_PM[240:], GRIDS[1:]),
    }[clip]
    inputs, order_V = tower_inputs(patches, grids, config)
    if kind == "as_coded":
        inputs["window_mask_11PP"] = inputs["full_mask_11PP"] = np.ones_like(inputs["full_mask_11PP"])
    found = run_graph(path, inputs)["embeddings_VC"]
    np.testing.assert_allclose(found, RECORDED[f"out_{kind}_{clip}"][order_V], **TOLERANCE)


@pytest.mark.parametrize("blocks", [None, (0,), (1,), (2,), ()])
def test_graph_and_oracle_agree_on_any_blocks(
    written: tuple[Path, VisionConfig], blocks: tuple[int, ...] | None
) -> None:
    path, config = written
    weights = path.with_suffix(".safetensors")
    part = path.with_name(f"part_{blocks}.onnx")
    vision_graph(config, weights, blocks=blocks).save(part)
    inputs, _ = tower_inputs(RECORDED["pixel_values_videos"][:48], [(1, 6, 8)], config)
    expected = numpy_vision.tower(config, load_file(weights), inputs, blocks=blocks)
    found = run_graph(part, inputs)
    np.testing.assert_allclose(found["embeddings_VC"], expected["embeddings_VC"], **TOLERANCE)


def test_windows_matter(written: tuple[Path, VisionConfig]) -> None:
    path, config = written
    patches_PM = RECORDED["pixel_values_videos"][:120]
    grids: list[Grid] = [(1, 12, 10)]
    inputs, order_V = tower_inputs(patches_PM, grids, config)
    wide, unchanged_V = tower_inputs(patches_PM, grids, replace(config, window_size=4096))
    np.testing.assert_array_equal(unchanged_V, np.arange(30))
    narrow_VC = run_graph(path, inputs)["embeddings_VC"]
    assert np.abs(narrow_VC - run_graph(path, wide)["embeddings_VC"][order_V]).max() > 1e-2
