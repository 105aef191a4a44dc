"""A run's figures: a log names the stage once and holds no bar; a resumed run drops the steps that it repeats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unimoe.training.reporting import Reporter


def test_a_log_names_the_stage_and_holds_no_bar(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for first in (0, 2):
        with Reporter(tmp_path, "base", step=first, num_steps=4, silent=False) as reporter:
            for step in range(first, 4):
                reporter.advance(step + 1, 100.0, {"loss": 1.0})
    told = [line for line in capfd.readouterr().err.splitlines() if "TensorBoard" not in line]
    assert told == ["base: steps 0 to 4", "base: steps 2 to 4"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


def test_other_processes_are_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Reporter(tmp_path, "base", step=0, num_steps=4, silent=True) as reporter:
        reporter.advance(1, 100.0, {"loss": 1.0})
    assert capfd.readouterr() == ("", "") and not list(tmp_path.iterdir())
