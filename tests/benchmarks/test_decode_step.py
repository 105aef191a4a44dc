"""The benchmark's peers compute the same model, and its dial sets the number of picks. No timing is asserted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import decode_goals, decode_step, rounds
from benchmarks.quantized import write_int8
from benchmarks.workload import MAX_PICKED, bytes_touched, model_config, write_checkpoint
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.reader import open_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    write_checkpoint(folder / "checkpoint", model_config(128, num_layers=2))
    export_bundle(folder / "checkpoint", folder / "bundle")
    write_int8(folder / "bundle", folder / "int8")
    return folder


@pytest.mark.slow
def test_peers_agree_at_every_number_of_picked_experts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(rounds, "_SET_BYTES", 1.0)
    bundle, peers = rounds.build_peers(folder, None)
    # Raises if logits differ by 1e-3 (int8: 0.1), or if the number of launched experts is not the dial's.
    agreement = rounds.check_agreement(bundle, peers, list(range(MAX_PICKED + 1)))
    assert set(agreement) == set(rounds.PEERS)
    assert 1e-5 < agreement.pop("int8") < 0.1
    assert max(agreement.values()) < 1e-5


def test_bytes_touched_counts_picked_experts_once(folder: Path) -> None:
    bundle = open_bundle(folder / "bundle")
    none, three = (bytes_touched(bundle, picked, 10) for picked in (0, 3))
    expert = 4 * 3 * bundle.model.hidden_size * bundle.model.routed_intermediate_size
    assert none["experts"] == 0
    int8 = bytes_touched(open_bundle(folder / "int8"), 3, 10)
    assert 0.25 < int8["experts"] / three["experts"] < 0.28
    assert int8["cache"] == three["cache"]
    assert three["experts"] == 3 * 2 * expert
    assert {part: none[part] for part in ("trunks", "head", "cache")} == {
        part: three[part] for part in ("trunks", "head", "cache")
    }


def test_summary_of_known_timings() -> None:
    raw = {
        "hidden": 384, "threads": 1, "copies": 2, "cores_of_others": 0.0, "agreement": {}, "sampling_seconds": [1e-4],
        "bytes": {picked: {"trunks": 1_000_000 * (1 + int(picked))} for picked in ("0", "2", "4", "8")},
        "int8_bytes": {picked: {"trunks": 250_000 * (1 + int(picked))} for picked in ("0", "2", "4", "8")},
        "read_bytes_per_second": {"slow": [0.5e9] * 4, "fast": [1e9] * 4},
        "seconds": {
            peer: {picked: [[factor * 1e-3 * (1 + int(picked))] * 2] * 4 for picked in ("0", "2", "4", "8")}
            for peer, factor in (("ours", 2), ("int8", 1), ("single graph", 3))
        },
    }  # fmt: skip
    summary = decode_step.summarize(raw)
    assert summary["read_kernel"] == "fast"
    assert [step["to_floor"] for step in summary["steps"]] == pytest.approx([2.0] * 4)
    assert [step["to_ours"]["single graph"] for step in summary["steps"]] == pytest.approx([1.5] * 4)
    assert [step["int8_to_floor"] for step in summary["steps"]] == pytest.approx([4.0] * 4)
    assert summary["linear_fit"]["ms_per_expert"] == pytest.approx(2.0)
    assert summary["linear_fit"]["r_squared"] == pytest.approx(1.0)

    # Two threads: twice the bandwidth, ours 1.6 times as fast, the peer no faster.
    faster = {
        **summary,
        "threads": 2,
        "cores_of_others": 0.5,
        "steps": [_at_two_threads(step) for step in summary["steps"]],
    }
    rows = decode_goals.best([summary, faster])
    assert [row["to_floor_threads"] for row in rows] == [1] * 4
    assert rows[0]["best_threads"] == {"ours": 2, "int8": 1, "single graph": 1}
    goals = decode_goals.goals(rows)
    assert [goal["met"] for goal in goals] == [False, False, True]  # 2 × the floor; the goal is 1.4
    assert goals[1]["worst"] == pytest.approx(2 / 1.6)  # int8 against float32
    assert goals[2]["worst"] == pytest.approx(1.5 * 1.6)
    assert goals[2]["ceiling"] == pytest.approx(3.0 * 2.0)
    (int8,) = decode_goals.int8_floor_goals([summary, faster])  # 384 with two threads has no goal
    assert not int8["met"] and int8["worst"] == pytest.approx(4.0) and "1 thread(s)" in int8["name"]
    result = {"machine": {"cpu": "?"}, "rounds": 4, "runs": [summary, faster], "best": rows, "goals": goals}
    assert "| 384 | 8 | 2.00 (1) | 11.25 (2) | 0.80 (1) | 2.40 (1) |" in decode_step.markdown(result)
    warnings = [note for note in decode_step.notes(result) if note.startswith("WARNING")]
    assert len(warnings) == 1 and "2 thread(s)" in warnings[0]


def _at_two_threads(step: dict[str, Any]) -> dict[str, Any]:
    medians = {**step["median_ms"], "ours": step["median_ms"]["ours"] / 1.6}
    return {**step, "floor_ms": step["floor_ms"] / 2, "to_floor": 2.5, "median_ms": medians}
