"""`unimoe inspect`: the overview, and the graphs' shapes on request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.speaking_bundle import write_speaking_bundle
from unimoe.cli.inspect import inspect


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaking_bundle(tmp_path_factory.mktemp("inspect"))


def test_what_it_speaks_comes_first_and_shapes_only_when_asked(speaking: Path) -> None:
    shown = CliRunner().invoke(inspect, [str(speaking)])
    assert shown.exit_code == 0, shown.output
    for word in ("voices:", "instruments:", "experts", "codec decoder", "fp32", "engines: none built"):
        assert word in shown.stdout
    assert "hidden_BTC" not in shown.stdout
    graphs = CliRunner().invoke(inspect, [str(speaking), "--graphs", "--check"])
    assert "input   hidden_BTC" in graphs.stdout and "files, each as the manifest says" in graphs.stdout


def test_json_holds_parts_engines_and_graphs(reference_bundle: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(inspect, [str(reference_bundle), "--json"])
    report = json.loads(shown.stdout)
    assert report["layers"] == 3 and report["engines"] == []
    assert len(report["graphs"]) == 3 * 9 + 2, "trunks and experts, head, vision"
    assert report["bytes"] == sum(part["num_bytes"] for part in report["parts"])
    written = CliRunner().invoke(inspect, [str(reference_bundle), "--json", str(tmp_path / "out.json"), "--graphs"])
    assert json.loads((tmp_path / "out.json").read_text()) == report
    assert "layers.*.expert.* × 24" in written.stdout, "words as well"
