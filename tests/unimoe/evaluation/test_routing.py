"""Counts of routing decisions on known routings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.unimoe.training.tiny_training import config, make_examples
from unimoe.evaluation.routing import RoutingRecord, routing_of
from unimoe.model import UniMoE
from unimoe.training.merging import dense_config


def record(music_expert: int, clips: int = 12) -> RoutingRecord:
    """Two layers, two routed experts and a null expert: speech picks expert 0 and null, music picks `music_expert`."""
    domain_X = np.arange(clips) % 2
    picks_XLE = np.zeros((clips, 2, 3), dtype=np.int64)
    picks_XLE[domain_X == 0, :, 0] = 6
    picks_XLE[domain_X == 0, :, 2] = 2
    picks_XLE[domain_X == 1, :, music_expert] = 8
    picked_DLP = np.zeros((2, 2, 3), dtype=np.int64)
    picked_DLP[:, :, 1] = 8 * clips // 2
    return RoutingRecord(
        domains=("speech", "music"), num_routed=2, domain_X=domain_X, tokens_X=np.full(clips, 8), picks_XLE=picks_XLE,
        picked_DLP=picked_DLP,
    )  # fmt: skip


def test_loads_and_null_share_are_shares_of_picks() -> None:
    found = record(music_expert=1)
    assert found.load_DLE()[0, 0].tolist() == [1, 0] and found.load_DLE()[1, 0].tolist() == [0, 1]
    assert found.load_LE()[1].tolist() == pytest.approx([36 / 84, 48 / 84])
    assert found.null_share_DL().tolist() == [[0.25, 0.25], [0, 0]]
    assert found.summary()["null_share"] == pytest.approx(12 / 96)
    assert found.picked_mean_DL().tolist() == [[1, 1], [1, 1]]


def test_domains_that_use_other_experts_differ_by_more_than_chance() -> None:
    distance, chance = record(music_expert=1).difference()
    assert distance == pytest.approx(1.0) and chance < 0.01


def test_domains_that_are_routed_alike_do_not() -> None:
    rng = np.random.default_rng(0)
    found = record(music_expert=0)
    alike = RoutingRecord(
        domains=found.domains, num_routed=2, domain_X=found.domain_X, tokens_X=found.tokens_X,
        picks_XLE=rng.integers(3, 9, found.picks_XLE.shape), picked_DLP=found.picked_DLP,
    )  # fmt: skip
    assert alike.difference()[1] > 0.05


def test_a_models_picks_are_counted_over_tokens_that_are_no_padding() -> None:
    torch.manual_seed(0)
    model = UniMoE(config())
    examples = make_examples(10)
    found = routing_of(model, examples)
    assert found.domains == ("speech", "music") and model.training
    assert found.picked_DLP.sum(axis=2).tolist() == [
        [sum(e.length for e in examples if e.domain == domain)] * 2 for domain in found.domains
    ]
    routed = found.picks_XLE[:, :, : found.num_routed].sum()
    assert routed == (found.picked_DLP @ np.arange(found.num_routed + 1)).sum()
    with pytest.raises(ValueError, match="no routing"):
        routing_of(UniMoE(dense_config(config(), 2)), examples)
