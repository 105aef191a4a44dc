"""`unimoe plan`: a plan and its assumptions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.published_folder import published_config
from unimoe.cli.plan import plan


@pytest.fixture
def published(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(published_config()))
    return tmp_path


def test_the_command_plans_and_says_what_it_assumed(published: Path, tiny_bundle: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(plan, [str(published), "--target", "rtx-4060", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert {row["precision"] for row in report["rows"]} == {
        "fp32", "bf16", "fp16", "int8", "fp8", "int8-weights", "int4",
    }  # fmt: skip
    assert "assumed" in report["activation"]["source"] and len(report["assumptions"]["rtx-4060"]) >= 4

    done = runner.invoke(plan, [str(tiny_bundle), "--target", "t4", "--precision", "int8"], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    assert "a short run here" in done.stdout and "int8" in done.stdout and "fp32" not in done.stdout
