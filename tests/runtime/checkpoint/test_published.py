"""The published format's configuration and tensor names, mapped to ours and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unimoe_runtime.checkpoint import published
from unimoe_runtime.errors import CheckpointError, ConfigError

VECTORS = Path(__file__).parents[2] / "vectors"


def config() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((VECTORS / "tiny_config.json").read_text())
    return found


def test_names_map_there_and_back() -> None:
    names = json.loads((VECTORS / "full_checkpoint_names.json").read_text())
    ours = {name: published.canonical_name(name) for name in names}
    assert [name for name, our in ours.items() if our is None] == ["lm_head.weight"], "only the text head is unused"
    for name, our in ours.items():
        assert our is None or published.published_name(our) == name


def test_unknown_names_are_refused() -> None:
    for name in ("language_model.layers.x.mlp.gate.weight", "visual.blocks.0.norm3.weight", "lm_head.weight.x"):
        with pytest.raises(CheckpointError, match="not part of the published"):
            published.canonical_name(name)
    with pytest.raises(CheckpointError, match="has no tensor 'other'"):
        published.published_name("other")


def test_a_configuration_is_recognised_and_read() -> None:
    assert published.is_public_config(config()) and not published.is_public_config({"model": {}})
    model = published.model_config(config())
    assert model.weighting == "sparsemixer" and model.num_codebooks == config()["codec_channels"]


def test_a_top_p_of_zero_means_top_k() -> None:
    text_config = config()["text_config"] | {"mlp_dynamic_top_p": 0.0, "mlp_dynamic_top_k": 3.0}
    model = published.model_config({**config(), "text_config": text_config})
    assert (model.selection, model.top_k) == ("top_k", 3)


@pytest.mark.parametrize(
    "change",
    [
        {"text_config": {}}, {"text_config": None}, {"text_config": 3}, {"codec_delay_pattern": None},
        {"codec_delay_pattern": 7}, {"codec_channels": "x"}, {"codec_eos_value": -1}, {"codec_channels": 10**12},
    ],
)  # fmt: skip
def test_a_damaged_configuration_is_one_line(change: dict[str, Any]) -> None:
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        published.model_config({**config(), **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["num_attention_heads", "hidden_size", "rope_scaling", "mlp_dynamic_top_k"])
@pytest.mark.parametrize("value", [None, "x", [], 0, float("nan")])
def test_a_damaged_field_of_the_text_model_is_one_line(field: str, value: object) -> None:
    damaged = config()
    damaged["text_config"][field] = value
    try:
        published.model_config(damaged)
    except (CheckpointError, ConfigError) as error:
        assert "\n" not in str(error)
