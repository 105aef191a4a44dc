"""A step's time is its bytes divided by the bandwidth, plus the cost of each launch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.random_checkpoint import tiny_config
from tests.routing_records import record
from unimoe_runtime.bundle.routing_statistics import (
    parse_activation,
)
from unimoe_tools.planning.roofline import Costs, Launches, Workload, cache_bytes, predict
from unimoe_tools.planning.weights import graph_bytes, model_bytes

PLAIN = Costs(bytes_per_s=1e9, trunk_s=0, expert_s=0, head_s=0, host_s=0, miss_bytes_per_s=1e8)


def test_a_step_is_bytes_over_bandwidth_and_the_launches() -> None:
    config = tiny_config(delay_pattern=(0, 5))
    weights, activation = model_bytes(config, "float32"), parse_activation(record(), tiny_config(), "here")
    workload = Workload(cached_positions=100, lookahead_frames=3, min_first_frames=1)
    found = predict(config, weights, activation, workload, PLAIN)
    expert = graph_bytes("layers.0.expert.0", config, "float32")
    read = weights.always + 3.5 * expert + cache_bytes(config, 2, 100) + 4 * 2 * 2 * 16
    assert found.step_bytes == pytest.approx(read)
    assert found.step_s == pytest.approx(read / 1e9)
    assert found.first_audio_s == pytest.approx(found.prefill_s + (5 + 2 + 3) * found.step_s)

    costly = replace(PLAIN, trunk_s=1.0, expert_s=0.1, head_s=0.01, host_s=0.001)
    slower = predict(config, weights, activation, workload, costly)
    assert slower.step_s - found.step_s == pytest.approx(2 + 0.35 + 0.011)
    missed = predict(config, weights, activation, workload, PLAIN, Launches(missed_share=0.5))
    assert missed.step_s - found.step_s == pytest.approx(0.5 * 3.5 * expert / 1e8)
