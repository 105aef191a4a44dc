"""Merging of specialists: slices become experts, the rest is averaged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import torch

from tests.unimoe.training.tiny_training import config
from unimoe.model import UniMoE
from unimoe.training.merging import dense_config, is_new, merge
from unimoe_runtime.errors import ConfigError


def specialists() -> list[dict[str, torch.Tensor]]:
    dense = dense_config(config(), 2)
    torch.manual_seed(1)
    return [dict(UniMoE(dense).state_dict()) for _ in range(2)]


def test_an_even_mix_of_a_specialists_slices_is_that_specialist() -> None:
    speech, music = specialists()
    music |= {name: value for name, value in speech.items() if ".moe." not in name}
    model_config = replace(config(), num_null_experts=0, selection="top_k", top_k=2)
    model = UniMoE(model_config)
    model.load_state_dict(merge([speech, music], model_config, seed=0))
    dense = UniMoE(dense_config(config(), 2))
    hidden_BTC = torch.randn(2, 5, 32)
    for weights, first in ((speech, 0), (music, 2)):
        dense.load_state_dict(weights)
        for layer, whole in zip(cast(Any, model.layers), cast(Any, dense.layers), strict=True):
            with torch.no_grad():
                layer.moe.shared.down.zero_()
                layer.moe.router.weight.zero_()
                layer.moe.router.weight[first : first + 2] = hidden_BTC.mean(dim=(0, 1))
                x = hidden_BTC.mean(dim=(0, 1)).expand(2, 5, 32)
                torch.testing.assert_close(layer.moe(x)[0], whole.moe(x)[0], atol=1e-6, rtol=1e-5)


def test_merging_averages_the_rest_and_starts_gate_and_shared_anew() -> None:
    one, two = specialists()
    merged, other_seed = (merge([one, two], config(), seed=seed) for seed in (0, 1))
    for name, value in merged.items():
        if is_new(name):
            assert not torch.equal(value, other_seed[name])
        elif ".moe.experts." not in name:
            torch.testing.assert_close(value, (one[name] + two[name]) / 2)
    assert sum(is_new(name) for name in merged) == 3 * config().num_layers


def test_experts_must_be_shared_out_evenly_and_specialists_must_fit() -> None:
    with pytest.raises(ConfigError, match="num_routed_experts is 4; it must be a multiple of the 3 domains"):
        dense_config(config(), 3)
    wide = dense_config(config(routed_intermediate_size=32), 2)
    with pytest.raises(ConfigError, match="the specialists make"):
        merge([UniMoE(wide).state_dict()] * 2, config(), seed=0)
