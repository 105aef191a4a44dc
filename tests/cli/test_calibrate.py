"""`unimoe calibrate`: options, a recipe, the page, and the coverage table when --strict fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.command_line import assert_one_line, run
from tests.speaking_bundle import write_speaking_bundle
from unimoe.cli.calibrate import calibrate_command, read_recipe
from unimoe_runtime.bundle.reader import language_model_graphs, open_bundle
from unimoe_runtime.errors import CalibrationError, ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaking_bundle(tmp_path_factory.mktemp("calibrate"))


@pytest.mark.slow
def test_it_says_what_it_did_and_writes_a_page(speaking: Path, tmp_path: Path) -> None:
    lines, page, cache = tmp_path / "speech.jsonl", tmp_path / "page.html", tmp_path / "cache"
    lines.write_text(json.dumps({"text": "the cat"}) + "\n")
    arguments: list[str | Path] = [
        "calibrate", speaking, tmp_path / "out", "--data", lines, "--floor", "9999", "--cache", cache, "--precision",
        "int8",
    ]  # fmt: skip
    done = run(*arguments, "--html", page, "--verify-steps", "10")
    assert done.returncode == 0, done.stderr
    for words in ("tokens that each expert received, floor 9999", "graphs for cpu", "routing flips", f"page: {page}"):
        assert words in done.stdout
    assert "warning: the data are speech only, and the bundle also makes music" in done.stderr
    assert "their weights alone are quantized" in done.stderr
    assert "Fallbacks" in page.read_text()
    assert_one_line(run(*arguments), "exists already; pass --force to replace it")
    for_gpu = run(*arguments, "--force", "--no-flips", "--verify-steps", "0", "--target", "rtx-4060")
    assert f"next: `unimoe build {tmp_path / 'out'} --target rtx-4060`" in for_gpu.stdout
    weights = run(*arguments, "--force", "--no-flips", "--verify-steps", "0", "--precision", "int8-weights")
    assert "int8-weights quantizes no inputs and needs no tokens for it" in weights.stderr
    figures = json.loads(run(*arguments, "--force", "--no-flips", "--verify-steps", "0", "--json").stdout)
    assert figures["items"] == figures["items_from_cache"] == 1 and figures["precision"] == "int8"
    assert sum(figures["precisions"].values()) == len(list(language_model_graphs(open_bundle(speaking).model)))


def test_strict_shows_the_table_that_it_fails_by(speaking: Path, tmp_path: Path) -> None:
    lines = tmp_path / "texts.jsonl"
    lines.write_text(json.dumps({"text": "the cat"}) + "\n")
    options = ["--strict", "--floor", "99999", "--cache", str(tmp_path), "--data", str(lines)]
    done = CliRunner().invoke(calibrate_command, [str(speaking), str(tmp_path / "out"), *options])
    assert isinstance(done.exception, CalibrationError) and not (tmp_path / "out").exists()
    assert "tokens that each expert received, floor 99999" in done.stderr and "layer" in done.stderr


def test_a_recipe_has_the_options_as_fields(tmp_path: Path) -> None:
    recipe = read_recipe(ROOT / "recipes" / "calibrate-int8.toml")
    assert recipe == {
        "target": "cpu", "scheme": "w8a8", "method": "auto", "floor": 512, "fallback": "weight-only",
    }  # fmt: skip
    file = tmp_path / "recipe.toml"
    file.write_text('[calibrate]\ndata = "texts"\nmax_bytes = "8MB"\nprecision = "w4"\n')
    assert read_recipe(file) == {"data": tmp_path / "texts", "max_bytes": 8_000_000, "scheme": "w4"}
    for text, message in (
        ("", "section .calibrate. is missing"),
        ("[calibrate]\nfloors = 3\n", "no field 'floors'"),
        ('[calibrate]\nmax_bytes = "many"\n', "no size"),
        ('[calibrate]\nprecision = "fp32"\n', "quantized to one of"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_recipe(file)
