"""The probe measures this CPU on one layer of the planned model's sizes."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from tests.random_checkpoint import tiny_config
from unimoe_calibration.quantized_probe import quantize_probe
from unimoe_export.probes import write_probe
from unimoe_runtime.bundle.routing_statistics import (
    assumed_activation,
)
from unimoe_tools.planning import host as host_module
from unimoe_tools.planning.host import measure_host
from unimoe_tools.planning.machines import measured_machine
from unimoe_tools.planning.roofline import Workload, predict
from unimoe_tools.planning.weights import graph_bytes, model_bytes, stored_precision


@pytest.mark.slow
def test_this_cpu_is_measured_on_a_layer_of_the_models_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_LEAST_S", 0.02), ("_RUNS", 1), ("_COPY_STEPS", 9)):
        monkeypatch.setattr(host_module, name, value)
    model = tiny_config(hidden_size=64, routed_intermediate_size=96, num_layers=3)
    probe = write_probe(tmp_path, model)
    config = probe.model
    assert (config.num_layers, config.num_routed_experts, config.hidden_size) == (1, 2, 64)
    assert graph_bytes("layers.0.expert.0", config, "float32") == graph_bytes("layers.2.expert.3", model, "float32")
    narrow = quantize_probe(probe, tmp_path / "int8", "int8")
    assert stored_precision(narrow) == "int8"
    for bundle in (probe, narrow):
        costs = measure_host(bundle, step_bytes=1e6, positions=20)
        assert all(0 < one < 0.1 for one in (costs.trunk_s, costs.expert_s, costs.head_s, costs.host_s))
        assert costs.bytes_per_s == inf and costs.flops_per_s > 1e8
    best, middle, worst = (one.trunk_s for one in measured_machine(costs).costs)
    assert best < middle == costs.trunk_s < worst
    weights, activation = model_bytes(model, "int8"), assumed_activation(model)
    found = predict(model, weights, activation, Workload(), costs)
    layers = 3 * costs.trunk_s + activation.mean * costs.expert_s
    assert found.step_s == pytest.approx(layers + costs.head_s + costs.host_s)
