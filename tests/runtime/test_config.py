"""Configurations: refusals by name, value and range, and the round trip through JSON."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest

from tests.random_checkpoint import tiny_config
from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.errors import ConfigError

MODEL_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"num_layers": 0}, "num_layers is 0; it must be an integer of at least 1"),
    ({"hidden_size": 8.0}, "hidden_size is 8.0; it must be an integer of at least 1"),
    ({"num_null_experts": -1}, "num_null_experts is -1; it must be an integer of at least 0"),
    ({"routed_intermediate_size": 0}, "routed_intermediate_size is 0; it must be at least 1 where it has experts"),
    ({"shared_intermediate_size": 0}, "shared_intermediate_size is 0; it must be at least 1 where it has experts"),
    ({"num_heads": 3}, "num_heads is 3; it must be a multiple of num_kv_heads"),
    ({"head_dim": 7}, "head_dim is 7; it must be even"),
    ({"top_p": 0.0}, "top_p is 0.0; it must be a number above 0, at most 1"),
    ({"top_p": 1.01}, "top_p is 1.01; it must be a number above 0, at most 1"),
    ({"top_p": math.nan}, "top_p is nan; it must be a number above 0, at most 1"),
    ({"selection": "top_k", "top_k": 6}, "top_k is 6; it must be in 1 … 5"),
    ({"selection": "best"}, "selection is 'best'; it must be 'top_p' or 'top_k'"),
    ({"weighting": "equal"}, "weighting is 'equal'; it must be 'probability' or 'sparsemixer'"),
    ({"mrope_sections": (1, 1, 1)}, "mrope_sections is (1, 1, 1); it must be empty or three counts adding up to 4"),
    ({"mrope_sections": (2, 2)}, "mrope_sections is (2, 2); it must be empty or three counts adding up to 4"),
    ({"mrope_sections": (-1, 2, 3)}, "mrope_sections[0] is -1; it must be an integer of at least 0"),
    ({"delay_pattern": (0,)}, "delay_pattern is (0,); it must be one delay of 0 or more for each of 2 codebooks"),
    ({"delay_pattern": (0, -1)}, "delay_pattern[1] is -1; it must be an integer of at least 0, at most 4,096"),
    ({"delay_pattern": (0, 0.5)}, "delay_pattern[1] is 0.5; it must be an integer"),
    ({"router_jitter_noise": -0.1}, "router_jitter_noise is -0.1; it must be a number of at least 0, at most 0.999999"),
    ({"input_jitter_noise": 1.0}, "input_jitter_noise is 1.0; it must be a number of at least 0, at most 0.999999"),
    ({"rope_theta": 0.0}, "rope_theta is 0.0; it must be a number above 0"),
    ({"rms_norm_eps": -1e-6}, "rms_norm_eps is -1e-06; it must be a number above 0"),
    ({"aux_loss_weight": -1.0}, "aux_loss_weight is -1.0; it must be a number of at least 0"),
    ({"min_aux_loss_weight": math.nan}, "min_aux_loss_weight is nan; it must be a number of at least 0"),
]
SAMPLING_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"guidance_scale": -1.0}, "guidance_scale is -1.0; it must be a number of at least 0"),
    ({"temperature": math.nan}, "temperature is nan; it must be a number of at least 0"),
    ({"top_k": 0}, "top_k is 0; it must be an integer of at least 1"),
    ({"top_p": 0.0}, "top_p is 0.0; it must be a number above 0, at most 1"),
    ({"eos_factor": 0.0}, "eos_factor is 0.0; it must be a number above 0"),
    ({"min_steps": -1}, "min_steps is -1; it must be an integer of at least 0"),
    ({"max_steps": 99}, "max_steps is 99; it must be at least min_steps and 1"),
]


@pytest.mark.parametrize(("changes", "message"), MODEL_FAULTS, ids=str)
def test_model_names_field_value_and_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        tiny_config(**changes)


@pytest.mark.parametrize(("changes", "message"), SAMPLING_FAULTS, ids=str)
def test_sampling_names_field_value_and_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        SamplingConfig(**changes)


def test_records_go_through_json() -> None:
    for record in (tiny_config(mrope_sections=(1, 1, 2)), SamplingConfig(top_k=None)):
        assert type(record).from_dict(json.loads(json.dumps(record.to_dict()))) == record
    with pytest.raises(ConfigError, match="SamplingConfig does not know the field 'topk'; known: eos_factor, "):
        SamplingConfig.from_dict({"topk": 3})
    with pytest.raises(ConfigError, match="the field 'text_vocab_size' is missing") as caught:
        ModelConfig.from_dict({})
    assert "\n" not in str(caught.value)


def test_router_rows_and_special_ids() -> None:
    assert tiny_config(num_shared_experts=2).num_router_rows == 5
    assert tiny_config(num_shared_experts=2, weighting="sparsemixer").num_router_rows == 7
    config = tiny_config()
    assert (config.eos_id, config.pad_id, config.bos_id, config.codec_vocab_size) == (8, 9, 10, 11)
