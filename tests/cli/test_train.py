"""`unimoe train`: an invalid recipe gives one line, and every stage takes --json."""

from __future__ import annotations

from pathlib import Path

from tests.command_line import assert_one_line, run
from unimoe.cli.train import train


def test_stages_take_json() -> None:
    for name in ("all", "base", "specialist", "merge", "warmup", "joint", "demo"):
        assert "json_to" in {parameter.name for parameter in train.commands[name].params}, name


def test_a_recipe_that_is_none(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[data]\nseed = 0\n")
    assert_one_line(run("train", recipe, "--work", tmp_path / "work"), "recipe.toml")
