"""The recipes in the repository are consistent."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimoe.training.recipe_check import check_recipe

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["curriculum", "smoke", "voice"])
def test_the_recipe_holds_together(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # recipes name files of the repository
    assert check_recipe(Path("recipes") / f"{name}.toml", tools=False)["sampling"]
