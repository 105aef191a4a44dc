"""The benchmark of experts under a memory budget, at a tiny size without meaningful results."""

from __future__ import annotations

from pathlib import Path

from benchmarks.expert_residency import decode, ways, worker_figures
from benchmarks.residency_tables import tables
from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.onnxruntime.backend import OnnxRuntimeBackend
from unimoe_runtime.bundle.reader import open_bundle


def test_ways_budgets_and_tables(tmp_path: Path) -> None:
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", tiny_config())
    export_bundle(checkpoint, tmp_path / "bundle")
    kept = ways(tmp_path / "bundle")
    assert [row["same_bits"] for row in kept] == [1.0, 1.0, 1.0, 1.0]
    assert all(row["load_ms"] > 0 and row["run_us"] > 0 for row in kept)
    bundle = open_bundle(tmp_path / "bundle")
    budgeted = OnnxRuntimeBackend(bundle, memory_budget_bytes=0)
    first = decode(budgeted, bundle, 3)[0]
    row = worker_figures(bundle, budgeted, first, threads=None, rounds=1, steps=3)
    assert row["same"] and row["hit_rate"] == 0 and row["misses_per_step"] > 0 and row["step_bytes_p95"] > 0
    row |= {"share": 0.0, "anonymous_kb": 1, "mapped_kb": 1, "anonymous_over_empty_kb": 0}
    for _, columns, rows in tables("tiny", kept, [row]):
        assert all(len(cells) == len(columns) for cells in rows)
