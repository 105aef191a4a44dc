"""Planning: bytes equal those of the files, times follow the roofline, and models that do not fit are reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.published_folder import published_config
from unimoe_runtime.bundle.routing_statistics import (
    assumed_activation,
)
from unimoe_runtime.hardware.targets import find_target, open_targets
from unimoe_tools.planning.machines import MIDDLE, assumed_machine
from unimoe_tools.planning.plan import choose, make_plan, plan_row
from unimoe_tools.planning.source import open_source
from unimoe_tools.planning.weights import graph_bytes


@pytest.fixture
def published(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(published_config()))
    return tmp_path


def test_a_budget_keeps_the_experts_that_run_most(published: Path) -> None:
    source = open_source(published)
    shares = np.zeros((36, 8))
    shares[:, 5] = 1.0
    activation = replace(assumed_activation(source.model), share_LR=shares)
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
    report = make_plan(source, assumed_activation(source.model), targets)
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
