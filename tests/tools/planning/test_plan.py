"""Planning: bytes are those of the files, the roofline is what it says, what does not fit is said not to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.published_folder import published_config
from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe.cli.plan import plan
from unimoe_calibration.quantized_probe import quantize_probe
from unimoe_calibration.schemes import Engine, Scheme
from unimoe_calibration.weights import quantize_weight
from unimoe_export.exporter import export_bundle
from unimoe_export.probes import write_probe
from unimoe_runtime.bundle.reader import language_model_graphs, open_bundle
from unimoe_runtime.bundle.routing_statistics import (
    bundled_activation,
    parse_activation,
    read_activation,
    stated_activation,
)
from unimoe_runtime.errors import BundleError, CheckpointError, ConfigError
from unimoe_runtime.hardware.targets import find_target, open_targets
from unimoe_tools.planning import host as host_module
from unimoe_tools.planning.host import measure_host
from unimoe_tools.planning.machines import MIDDLE, assumed_machine, measured_machine
from unimoe_tools.planning.plan import choose, make_plan, plan_row
from unimoe_tools.planning.recording import record_routing
from unimoe_tools.planning.roofline import Costs, Launches, Workload, cache_bytes, predict
from unimoe_tools.planning.source import open_source
from unimoe_tools.planning.weights import graph_bytes, model_bytes, stored_bytes, stored_precision

PLAIN = Costs(bytes_per_s=1e9, trunk_s=0, expert_s=0, head_s=0, host_s=0, miss_bytes_per_s=1e8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planning")
    export_bundle(write_random_checkpoint(folder / "checkpoint", tiny_config()), folder / "tiny")
    return folder / "tiny"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(published_config()))
    return tmp_path


def record(layers: int = 2, routed: int = 4, rows: int = 2) -> dict[str, Any]:
    """Two tasks: in the one a single expert runs, in the other, three times as long, two do."""
    one = [[0, 10] + [0] * (routed - 1)] * layers
    two = [[0, 0, 30] + [0] * (routed - 2)] * layers
    return {
        "rows": rows,
        "tasks": {
            "speech": {"steps": 10, "launched_histogram": one, "launch_share": [[1.0] + [0.0] * (routed - 1)] * layers},
            "music": {"steps": 30, "launched_histogram": two, "launch_share": [[1.0, 1.0] + [0.0] * (routed - 2)] * 2},
        },
    }


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_bytes_of_graphs_are_those_of_the_files(tmp_path: Path, precision: str) -> None:
    export_bundle(write_random_checkpoint(tmp_path / "c", tiny_config()), tmp_path / "b", precision=precision)
    bundle = open_bundle(tmp_path / "b")
    for name in language_model_graphs(bundle.model):
        entries = bundle.weights(name).entries.values()
        assert graph_bytes(name, bundle.model, precision) == sum(entry.num_bytes for entry in entries)
    assert stored_precision(bundle) == precision
    assert stored_bytes(bundle).resident == pytest.approx(model_bytes(bundle.model, precision).resident, rel=0.5)


@pytest.mark.parametrize(("scheme", "precision"), [(Scheme.W8A8, "int8"), (Scheme.FP8, "fp8"), (Scheme.W4, "int4")])
def test_bytes_of_quantized_products_are_those_that_calibration_writes(scheme: Scheme, precision: str) -> None:
    config = tiny_config(hidden_size=64, routed_intermediate_size=96)
    written = 0
    for shape in ((64, 192), (96, 64)):
        weight = quantize_weight(np.ones(shape, np.float32), scheme, Engine.TENSORRT)
        written += weight.codes.values.nbytes + weight.scales.values.nbytes
    assert graph_bytes("layers.0.expert.0", config, precision) == written


def test_activation_is_weighted_by_steps_and_knows_its_distribution() -> None:
    found = parse_activation(record(), tiny_config(), "here")
    assert found.mean == pytest.approx(2 * 1.75)
    assert (found.low, found.high) == (2.0, 4.0)
    assert [found.quantile(share) for share in (0.05, 0.4, 0.95)] == [2, 3, 4]
    first = np.zeros((2, 4), dtype=np.bool_)
    first[:, 0] = True
    assert found.resident_share(first) == pytest.approx(1 / 1.75)


def test_stated_activation_is_the_union_of_independent_rows() -> None:
    found = stated_activation(tiny_config(num_routed_experts=8))
    assert found.mean == pytest.approx(2 * 3.5)
    np.testing.assert_allclose(found.launched_LK.sum(axis=1), 1)
    assert (found.launched_LK @ np.arange(9)).sum() == pytest.approx(found.mean)
    assert "stated" in found.source
    assert stated_activation(tiny_config(num_routed_experts=0, num_null_experts=0)).mean == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda found: found["tasks"].clear(),
        lambda found: found.pop("rows"),
        lambda found: found["tasks"]["speech"].pop("launch_share"),
        lambda found: found["tasks"]["speech"].update(launched_histogram=[[1]]),
        lambda found: found.update(tasks=[1]),
    ],
)
def test_a_damaged_record_is_refused(damage: Callable[[dict[str, Any]], None]) -> None:
    found = record()
    damage(found)
    with pytest.raises(ConfigError, match=r"^here: "):
        parse_activation(found, tiny_config(), "here")


def test_activation_of_a_run_and_of_a_profile(tiny: Path, tmp_path: Path) -> None:
    found = record_routing(tiny, steps=20)
    activation = parse_activation(found, open_bundle(tiny).model, "here")
    assert 0 < activation.mean <= 8
    assert (activation.launched_LK @ np.arange(5)).sum() == pytest.approx(activation.mean, rel=1e-3)
    (tmp_path / "routing.json").write_text(json.dumps(found))
    report = {"format": "unimoe-profile", "runs": [{"setting": {"rows": 2}, "tasks": found["tasks"]}]}
    (tmp_path / "profile.json").write_text(json.dumps(report))
    for name in ("routing.json", "profile.json"):
        assert read_activation(tmp_path / name, open_bundle(tiny).model).mean == activation.mean
    (tmp_path / "broken.json").write_text("[]")
    with pytest.raises(ConfigError, match="broken"):
        read_activation(tmp_path / "broken.json", tiny_config())


def test_the_manifest_may_hold_the_record(tiny: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "copy")
    assert bundled_activation(open_bundle(copy)) is None
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "routing_statistics": record()}))
    found = bundled_activation(open_bundle(copy))
    assert found is not None and found.mean == pytest.approx(3.5)
    (copy / "manifest.json").write_text(json.dumps({**manifest, "routing_statistics": record(layers=3)}))
    with pytest.raises(BundleError, match="recorded from another model"):
        bundled_activation(open_bundle(copy))


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


def test_a_budget_keeps_the_experts_that_run_most(published: Path) -> None:
    source = open_source(published)
    shares = np.zeros((36, 8))
    shares[:, 5] = 1.0
    activation = replace(stated_activation(source.model), share_LR=shares)
    target = find_target("rtx-4090")
    machine = assumed_machine(target)
    whole = plan_row(source, activation, target, machine, "int8")
    assert whole.fits_whole and whole.missed_share == 0
    budget = whole.needed_bytes - 7 * 36 * graph_bytes("layers.0.expert.0", source.model, "int8")
    tight = plan_row(source, activation, target, machine, "int8", memory_budget_bytes=budget + 1)
    assert tight.fits and tight.resident_share == pytest.approx(1 / 8) and tight.missed_share == 0
    less = plan_row(source, activation, target, machine, "int8", memory_budget_bytes=budget * 0.9)
    assert less.step_ms is not None and tight.step_ms is not None
    assert less.missed_share > 0 and less.step_ms[MIDDLE] > tight.step_ms[MIDDLE]
    nothing = plan_row(source, activation, target, machine, "int8", memory_budget_bytes=1e9)
    assert not nothing.fits and "does not fit" in nothing.reason
    assert not any(row.chosen for row in choose([nothing], target))


def test_the_published_model_is_planned_from_its_configuration_for_every_gpu(published: Path) -> None:
    source = open_source(published / "config.json")
    targets = [target for target in open_targets().values() if target.engine == "tensorrt"]
    report = make_plan(source, stated_activation(source.model), targets)
    assert report["parameters"] == pytest.approx(6.18e9, rel=0.01)  # 7.16 G without vision and text head
    assert report["delay_steps"] == 18 and report["first_frames"] == 12
    by_target = {target.name: [row for row in report["rows"] if row["target"] == target.name] for target in targets}
    for rows in by_target.values():
        assert sum(row["chosen"] for row in rows) == 1
        for row in rows:
            assert row["step_ms"] is None or row["step_ms"] == tuple(sorted(row["step_ms"]))
    half = next(row for row in by_target["h100"] if row["precision"] == "bf16")
    assert half["chosen"] and half["weight_bytes"] == pytest.approx(2 * 5.84e9, rel=0.01)
    json.dumps(report)


def test_this_cpu_is_measured_on_a_layer_of_the_models_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_LEAST_S", 0.02), ("_RUNS", 1), ("_COPY_STEPS", 9)):
        monkeypatch.setattr(host_module, name, value)
    model = tiny_config(hidden_size=64, routed_intermediate_size=96, num_layers=3)
    probe = write_probe(tmp_path, model)
    config = open_bundle(probe).model
    assert (config.num_layers, config.num_routed_experts, config.hidden_size) == (1, 2, 64)
    assert graph_bytes("layers.0.expert.0", config, "float32") == graph_bytes("layers.2.expert.3", model, "float32")
    narrow = quantize_probe(probe, tmp_path / "int8", "int8")
    assert stored_precision(open_bundle(narrow)) == "int8"
    for path in (probe, narrow):
        costs = measure_host(path, step_bytes=1e6, positions=20)
        assert all(0 < one < 0.1 for one in (costs.trunk_s, costs.expert_s, costs.head_s, costs.host_s))
        assert costs.bytes_per_s == inf and costs.flops_per_s > 1e8
    best, middle, worst = (one.trunk_s for one in measured_machine(costs).costs)
    assert best < middle == costs.trunk_s < worst
    weights, activation = model_bytes(model, "int8"), stated_activation(model)
    found = predict(model, weights, activation, Workload(), costs)
    layers = 3 * costs.trunk_s + activation.mean * costs.expert_s
    assert found.step_s == pytest.approx(layers + costs.head_s + costs.host_s)


def test_the_command_plans_and_says_what_it_assumed(published: Path, tiny: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(plan, [str(published), "--target", "rtx-4060", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert {row["precision"] for row in report["rows"]} == {
        "fp32", "bf16", "fp16", "int8", "fp8", "int4",
    }  # fmt: skip
    assert "stated" in report["activation"]["source"] and len(report["assumptions"]["rtx-4060"]) >= 4

    done = runner.invoke(plan, [str(tiny), "--target", "t4", "--precision", "int8"], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    assert "a short run here" in done.stdout and "int8" in done.stdout and "fp32" not in done.stdout


def test_what_cannot_be_planned_is_one_line(published: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither a bundle's manifest\.json nor a config\.json"):
        open_source(tmp_path.parent)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(CheckpointError, match="neither a checkpoint's configuration"):
        open_source(tmp_path / "other.json")
    source = open_source(published)
    with pytest.raises(ConfigError, match="fp8 is not one that t4 has"):
        make_plan(source, stated_activation(source.model), [find_target("t4")], precision="fp8")
    with pytest.raises(ConfigError, match="no target 'moon'"):
        CliRunner().invoke(plan, [str(published), "--target", "moon"], catch_exceptions=False)
