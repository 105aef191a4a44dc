"""The vision configuration of the reference vectors, and the grids of their two videos."""

from __future__ import annotations

import json
from pathlib import Path

from unimoe_runtime.checkpoint.published import vision_config
from unimoe_runtime.vision.tower import Grid, VisionConfig

VECTORS = Path(__file__).parents[1] / "vectors"
GRIDS: list[Grid] = [(2, 12, 10), (1, 8, 6)]


def tiny_vision() -> VisionConfig:
    config = vision_config(json.loads((VECTORS / "tiny_config.json").read_text()))
    assert config is not None
    return config
