"""`unimoe profile`: formats on standard output, the page of a comparison, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from unimoe.cli.profile import NOISE_EXIT_CODE, profile
from unimoe_tools.profiling.compare import Rounds, run_against
from unimoe_tools.profiling.page import comparison_as_html
from unimoe_tools.profiling.workload import ProfileRequest, Setting

FEW = ["--threads", "1", "--steps", "8", "--repetitions", "2", "--warmup", "0"]


def test_formats_go_to_standard_output(reference_bundle: Path) -> None:
    done = CliRunner().invoke(profile, [str(reference_bundle), *FEW, "-o", "jsonl", "--strict-noise"])
    assert done.exit_code in (0, NOISE_EXIT_CODE), done.output
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["step_mean_error_ms"] >= 0 and json.loads(line)["precision"] == "fp32"


@pytest.mark.slow
def test_a_comparison_says_how_long_it_takes_and_stops_in_time(reference_bundle: Path) -> None:
    setting = Setting(bundle=str(reference_bundle), requests=(ProfileRequest(task="random"),), threads=1, steps=8)
    told: list[str] = []
    found = run_against(setting, setting, Rounds(max_minutes=1e-6), announce=told.append)
    assert "a round takes about" in told[0] and found["rounds"] == 1
    assert {one["verdict"] for one in found["measures"]} == {"stopped too early"}
    page = comparison_as_html([found])
    assert "Stopped too early" in page and "<script" not in page
