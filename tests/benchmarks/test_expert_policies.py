"""The benchmark of eviction rules, at a tiny size without meaningful results."""

from __future__ import annotations

from pathlib import Path

from benchmarks.expert_policies import ahead_figures, picks, policies, uses
from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.onnxruntime.backend import OnnxRuntimeBackend
from unimoe_runtime.bundle.reader import open_bundle


def test_who_knows_the_future_loads_least(tmp_path: Path) -> None:
    export_bundle(write_random_checkpoint(tmp_path / "checkpoint", tiny_config()), tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    passes = picks(OnnxRuntimeBackend(bundle), bundle, steps=12)
    different = {expert for _, expert in uses(passes)}
    for room in (2, 4):
        loads = policies(passes, bundle, room)
        assert min(loads, key=lambda name: loads[name]) == "the future known"
    assert set(policies(passes, bundle, len(different)).values()) == {policies(passes, bundle, 100)["used last"]}
    found = ahead_figures(bundle, None, 6, disk_ms=0.1, ahead=False)
    assert found["stall_ms"] > 0 and found["loaded_ahead"] == 0 and found["predicted_hits"] is None
