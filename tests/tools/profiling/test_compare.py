"""Comparing runs: equal runs show no difference, a planted one is found, and noise is reported as noise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.tools.profiling.synthetic_runs import a_run
from unimoe.cli.profile import profile
from unimoe_runtime.errors import ConfigError
from unimoe_tools.parity.ratios import Verdict
from unimoe_tools.profiling.compare import Rounds, announcement, compare_reports, compare_runs, interim, run_against
from unimoe_tools.profiling.report import comparison_rows
from unimoe_tools.profiling.workload import ProfileRequest, Setting


def test_runs_made_apart_are_compared_request_by_request() -> None:
    before = a_run(1)
    verdicts = {one.measure: one.verdict for one in compare_runs(before, a_run(2, step_ms=4.4))}
    assert verdicts["step_p50_ms"] == Verdict.SLOWER and verdicts["prefill_ms"] == Verdict.SAME
    assert all(one.verdict == Verdict.SAME for one in compare_runs(before, a_run(3)))
    assert "rtf" not in {one.measure for one in compare_runs(before, a_run(3, rtf=None))}
    other = a_run(2)
    other["generations"] = other["generations"][::2]
    with pytest.raises(ConfigError, match="different requests"):
        compare_runs(before, other)


def test_a_reference_kernel_that_went_down_widens_the_interval() -> None:
    step = compare_runs(a_run(1), a_run(2, step_ms=4.4, read=0.85e10))[0]
    assert step.verdict == Verdict.UNCLEAR and step.low < 1 < 1.2 < step.high


def test_profiles_are_compared_from_their_files(tmp_path: Path) -> None:
    machine = {"cpu": "a", "cores": 2, "onnxruntime": "1", "numpy": "1", "python": "3"}
    for name, run, cpu in (("a", a_run(1), "a"), ("b", a_run(2, step_ms=5.0), "b")):
        report = {"format": "unimoe-profile", "format_version": 1, "machine": {**machine, "cpu": cpu}, "runs": [run]}
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
    paths = [str(tmp_path / f"{name}.json") for name in "ab"]
    (found,) = compare_reports(Path(paths[0]), Path(paths[1]))
    assert found["slower"] and any("cpu was a, then b" in note for note in found["notes"])

    runner = CliRunner()
    done = runner.invoke(profile, ["--compare", *paths, "--json", str(tmp_path / "out.json")])
    assert done.exit_code == 1 and "slower" in done.stdout
    assert json.loads((tmp_path / "out.json").read_text())["comparisons"][0]["slower"]
    done = runner.invoke(profile, ["--compare", paths[1], paths[0]])
    assert done.exit_code == 0 and "faster" in done.stdout
    for usage in ([], ["bundle", "--compare", *paths], ["--compare", *paths, "--csv", str(tmp_path / "x")]):
        assert runner.invoke(profile, usage).exit_code == 2


@pytest.mark.slow
def test_two_bundles_run_in_turns(tiny_bundle: Path, tmp_path: Path) -> None:
    setting = Setting(bundle=str(tiny_bundle), requests=(ProfileRequest(task="random"),), threads=1, steps=10)
    with pytest.raises(ConfigError, match="at least 6"):
        run_against(setting, setting, Rounds(most=3))
    arguments = [
        str(tiny_bundle), "--against", str(tiny_bundle), "--threads", "1", "--steps", "10", "--repetitions", "6",
    ]  # fmt: skip
    done = CliRunner().invoke(profile, [*arguments, "--json", str(tmp_path / "out.json")])
    assert done.exit_code in (0, 1), done.output  # a loaded machine may give any of them
    (report,) = json.loads((tmp_path / "out.json").read_text())["comparisons"]
    assert [one["measure"] for one in report["measures"]] == ["step_p50_ms", "step_p90_ms", "prefill_ms", "ttfa_ms"]
    assert len(report["blocks"]) == len(report["reads_bytes_per_s"]) == 6
    assert {frozenset(block["candidate"]) for block in report["blocks"]} == {
        frozenset(one["measure"] for one in report["measures"])
    }
    assert all(one["low"] <= one["ratio"] <= one["high"] for one in report["measures"])


def test_a_comparison_says_beforehand_that_its_time_is_too_short() -> None:
    told = announcement(30.0, Rounds(max_minutes=1))
    assert "3 min 0 s: --max-minutes 1 ends the comparison before a verdict" in told
    assert "3 min 0 s to 5 min 0 s" in announcement(30.0, Rounds())


def test_too_few_rounds_give_no_interval() -> None:
    (step, *_) = compare_runs(a_run(1), a_run(2, step_ms=4.4))
    stopped = {**step.to_dict(), "verdict": str(Verdict.STOPPED)}
    assert comparison_rows({"measures": [stopped]})[0][-2:] == ["–", "stopped too early"]
    assert "slower" not in interim([step], 2) and "no verdict before 6 rounds" in interim([step], 2)
    assert str(step.verdict) in interim([step], 6)


def test_a_profile_of_one_repetition_gives_no_verdict(tmp_path: Path) -> None:
    """Its interval has no width, whatever the noise."""
    before, after = a_run(1), a_run(2, step_ms=4.4)
    for repetitions, told in ((2, True), (3, False)):
        runs = [{**run, "generations": run["generations"][: 2 * repetitions]} for run in (before, after)]
        assert (compare_runs(runs[0], runs[1])[0].verdict == Verdict.STOPPED) == told
    machine = {"cpu": "a", "cores": 2, "onnxruntime": "1", "numpy": "1", "python": "3"}
    one = {**before, "generations": before["generations"][:2]}
    report = {"format": "unimoe-profile", "format_version": 1, "machine": machine, "runs": [one]}
    (tmp_path / "a.json").write_text(json.dumps(report))
    (found,) = compare_reports(tmp_path / "a.json", tmp_path / "a.json")
    assert any("1 repetition; a verdict needs 3" in note for note in found["notes"]) and not found["slower"]
