"""`unimoe export`: its closing line uses the project's terms and gives the next command."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from unimoe.cli.export import export


def test_older_words_of_a_precision_are_accepted(reference_checkpoint: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(export, [str(reference_checkpoint), str(tmp_path / "a"), "--precision", "bfloat16"])
    assert shown.exit_code == 0, shown.output
    assert "graphs in bf16" in shown.stdout and "next: `unimoe inspect" in shown.stdout
    again = CliRunner().invoke(export, [str(reference_checkpoint), str(tmp_path / "b"), "--json"])
    assert json.loads(again.stdout)["num_graphs"] > 20
    assert CliRunner().invoke(export, ["a", "b", "--precision", "int8"]).exit_code == 2
