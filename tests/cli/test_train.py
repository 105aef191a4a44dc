"""`unimoe train`: an invalid recipe gives one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import assert_one_line, run


@pytest.mark.slow
def test_a_recipe_that_is_none(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[data]\nseed = 0\n")
    assert_one_line(run("train", recipe, "--work", tmp_path / "work"), "recipe.toml")
