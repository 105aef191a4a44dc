"""The back-test of plans at a tiny size: it predicts, measures and compares. The figures are not asserted."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import plan_backtest
from unimoe_tools.planning import host


def test_a_prediction_stands_beside_the_measured_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (plan_backtest, "_STEPS", 12), (plan_backtest, "_REPETITIONS", 1), (host, "_LEAST_S", 0.02),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    results = [plan_backtest.measure_pair(*pair, None) for pair in plan_backtest.write_models(tmp_path, "128x1")]
    assert [result["bundle"] for result in results] == ["128x1-float32", "128x1-int8"]
    for result in results:
        assert 0 < result["predicted_ms"] < 100 and 0 < result["step_ms"] < 100
        assert len(plan_backtest.cells(result)) == len(plan_backtest.COLUMNS)
    assert results[0]["mb_a_step"] > 2 * results[1]["mb_a_step"]
