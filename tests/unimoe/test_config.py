"""Presets: the exact parameter counts of the public model, and messages for unknown presets."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from unimoe.config import ModelConfig, preset
from unimoe.model import UniMoE
from unimoe_runtime.checkpoint import published as public_format
from unimoe_runtime.checkpoint.folder import tensor_shapes, vision_tensor_shapes
from unimoe_runtime.errors import ConfigError
from unimoe_runtime.vision.tower import VisionConfig

VECTORS = Path(__file__).parents[1] / "vectors"
# Part of a parameter's name -> component of the published counts; the first match counts.
PARTS = {
    "norm.weight": "norms",
    ".attention.": "attention",
    ".router.": "gate",
    ".experts.": "routed_experts",
    ".shared.": "shared_experts",
    "text_embedding": "text_embedding",
    "codec_embedding": "codec_embeddings",
    "codec_head": "codec_head",
}


# The published tower, including the fields for which its configuration uses the class's defaults.
FULL_VISION = VisionConfig(
    num_blocks=32, hidden_size=1280, intermediate_size=3420, num_heads=16, out_hidden_size=2048, patch_size=14,
    spatial_merge_size=2, temporal_patch_size=2, window_size=112, full_attention_blocks=(7, 15, 23, 31),
    tokens_per_second=2, vision_start_id=151_652, vision_end_id=151_653, video_token_id=151_656,
)  # fmt: skip


def test_public_preset_has_exactly_the_published_parameters() -> None:
    counts = json.loads((VECTORS / "full_checkpoint_counts.json").read_text())
    config = preset("public")
    with torch.device("meta"):
        model = UniMoE(config)
    components = counts["components"]
    expected = counts["total"] - components["vision"] - components["lm_head(text, unused for audio)"]
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    assert expected == counts["activated_without_vision_and_lm_head"]["8_real"]
    found: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = next(part for key, part in PARTS.items() if key in name)
        found[part] = found.get(part, 0) + parameter.numel()
    assert found == {part: components[part] for part in PARTS.values()}
    published = json.loads((VECTORS / "full_checkpoint_names.json").read_text())
    named = {public_format.canonical_name(name): tuple(shape) for name, shape in published.items()}
    named.pop(None)
    assert named == tensor_shapes(config) | vision_tensor_shapes(FULL_VISION)
    vision = {name: shape for name, shape in named.items() if name and name.startswith("vision.")}
    assert sum(math.prod(shape) for shape in vision.values()) == components["vision"]


def test_demo_preset_has_about_five_million_parameters() -> None:
    with torch.device("meta"):
        model = UniMoE(preset("demo", text_vocab_size=90))
    assert 4.7e6 < sum(parameter.numel() for parameter in model.parameters()) < 5.1e6


def test_presets_take_overrides_and_name_mistakes() -> None:
    assert preset("tiny", text_vocab_size=7).text_vocab_size == 7
    assert isinstance(preset("demo"), ModelConfig)
    with pytest.raises(ConfigError, match="no preset 'large'; known: tiny, demo, public"):
        preset("large")
    with pytest.raises(ConfigError, match="does not know the field 'hidden'"):
        preset("tiny", hidden=3)
    with pytest.raises(ConfigError, match=r"top_p is 1\.5"):
        preset("tiny", top_p=1.5)
