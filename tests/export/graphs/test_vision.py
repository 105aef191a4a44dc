"""The vision graph: recorded towers, the oracle, skipped blocks, different numbers of patches.

P patches · V video tokens · C channels
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.export.running import run_graph
from unimoe_export.graphs.vision import vision_graph
from unimoe_export.vision import check_vision, write_vision_weights
from unimoe_runtime.backends.numpy import vision as numpy_vision
from unimoe_runtime.backends.onnxruntime.sessions import open_session
from unimoe_runtime.checkpoint.folder import open_checkpoint
from unimoe_runtime.errors import GraphError
from unimoe_runtime.vision.tower import Grid, VisionConfig, tower_inputs

VECTORS = Path(__file__).parents[2] / "vectors"
RECORDED = load_file(VECTORS / "vision.safetensors")
GRIDS: list[Grid] = [(2, 12, 10), (1, 8, 6)]
TOLERANCE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def written(reference_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, VisionConfig]:
    """The recorded tower's graph with its weights in the bundle's layout."""
    checkpoint = open_checkpoint(reference_checkpoint)
    assert checkpoint.vision is not None
    path = tmp_path_factory.mktemp("vision") / "vision.onnx"
    weights = path.with_suffix(".safetensors")
    write_vision_weights(weights, checkpoint, checkpoint.vision, "float32")
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


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_sixteen_bits_stay_near(
    written: tuple[Path, VisionConfig], reference_checkpoint: Path, tmp_path: Path, precision: str
) -> None:
    path, config = written
    weights = tmp_path / "vision.safetensors"
    write_vision_weights(weights, open_checkpoint(reference_checkpoint), config, precision)
    assert weights.stat().st_size < 0.6 * path.with_suffix(".safetensors").stat().st_size
    assert check_vision(weights, config, precision) < 1e-4
    assert list(tmp_path.iterdir()) == [weights]
    vision_graph(config, weights).save(tmp_path / "vision.onnx")
    inputs, order_V = tower_inputs(RECORDED["pixel_values_videos"], GRIDS, config)
    found = open_session(tmp_path / "vision.onnx", precision=precision).run(None, inputs)[0]
    expected = RECORDED["out_windowed_both"][order_V]
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert 0 < error < (0.01 if precision == "float16" else 0.05)


def test_check_finds_a_block_that_is_wrong(written: tuple[Path, VisionConfig], tmp_path: Path) -> None:
    path, config = written
    weights = tmp_path / "vision.safetensors"
    weights.write_bytes(path.with_suffix(".safetensors").read_bytes())
    other = replace(config, full_attention_blocks=())
    assert check_vision(weights, config, "float32") < 1e-4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unimoe_export.vision._CHECKED_BLOCKS", 2)  # two, then one
        assert check_vision(weights, config, "float32") < 1e-4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "unimoe_export.vision.vision_graph", lambda _, *rest, **options: vision_graph(other, *rest, **options)
        )
        with pytest.raises(GraphError, match="embeddings_VC differs from the oracle"):
            check_vision(weights, config, "float32")
    assert list(tmp_path.iterdir()) == [weights]


def test_windows_matter(written: tuple[Path, VisionConfig]) -> None:
    path, config = written
    patches_PM = RECORDED["pixel_values_videos"][:120]
    grids: list[Grid] = [(1, 12, 10)]
    inputs, order_V = tower_inputs(patches_PM, grids, config)
    wide, unchanged_V = tower_inputs(patches_PM, grids, replace(config, window_size=4096))
    np.testing.assert_array_equal(unchanged_V, np.arange(30))
    narrow_VC = run_graph(path, inputs)["embeddings_VC"]
    assert np.abs(narrow_VC - run_graph(path, wide)["embeddings_VC"][order_V]).max() > 1e-2
