"""A trunk's stages add up to the trunk. No timing is asserted."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from benchmarks import step_parts
from benchmarks.quantized import write_int8
from benchmarks.workload import model_config, write_checkpoint
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.reader import open_bundle


@pytest.mark.slow
def test_stages_add_up_to_the_trunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_parts, "_MOST_COPIES", 1)
    write_checkpoint(tmp_path / "checkpoint", model_config(128, num_layers=2))
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle")
    write_int8(tmp_path / "bundle", tmp_path / "int8")
    for folder in ("bundle", "int8"):
        bundle = open_bundle(tmp_path / folder)
        graph = onnx.load(bundle.path / bundle.graph("layers.0.trunk").file, load_external_data=False).graph
        parts, step_us = step_parts.measure(bundle, 1, 1)
        names = [name for name, _ in step_parts.stages(graph)]
        assert [name for name, _, _ in parts] == [*names, "picked experts", "head"]
        assert all(nodes > 0 for _, nodes, _ in parts) and step_us > 0
        assert sum(nodes for name, nodes, _ in parts if name in names) == len(graph.node)
