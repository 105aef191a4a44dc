"""Mistakes in any stage of a recipe are found before it runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unimoe.training.recipe_check import check_recipe
from unimoe_runtime.errors import ConfigError

RECIPES = Path(__file__).parents[3] / "recipes"


@pytest.mark.parametrize("name", ["curriculum", "demo", "smoke", "voice"])
def test_the_recipes_of_the_repository_have_no_mistake(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(RECIPES.parent)  # recipes name files of the repository
    assert check_recipe(RECIPES / f"{name}.toml", tools=False)["sampling"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            r"\[joint\]",
            "[joint]\nnum_step = 3",
            r"section \[joint\]: TrainingConfig does not know the field 'num_step'",
        ),
        (
            r"\[joint\]\nnum_steps = \d+",
            '[joint]\nnum_steps = "many"',
            r"\[joint\]: num_steps is 'many'; it must be an integer",
        ),
        (r"\[warmup\]\nnum_steps = \d+", "[warmup]\nnum_steps = -1", r"\[warmup\]: num_steps is -1"),
        (r"piano = \d+", "piano = -80", r"\[data\]: melodies\.piano is -80"),
        (r"piano = \d+", "kazoo = 80", r"\[data\]: melodies names 'kazoo'"),
        (r"num_codebooks = \d+", "num_codebooks = [4]", r"\[codec\]: num_codebooks is \[4\]"),
        (r"num_layers = \d+", "num_layers = 1000000", r"\[model\]: num_layers is 1000000"),
        (r"top_k = \d+", "top_k = nan", r"\[sampling\.speech\]: top_k is nan"),
        (r"music_clips = \d+", "music_clips = 0", r"\[decoder\]: music_clips is 0; it must be"),
        (r"music_clips = \d+", "true_share = 2", r"\[decoder\]: true_share is 2; it must be"),
        (r"\[decoder\]", "[[decoder]]", r"section \[decoder\]: it must be a section"),
        (r"\[joint\]", "[jiont]", r"there is no section \[jiont\]; known: data, codec"),
        (r"\[joint\]", "[joint", "not valid TOML"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (RECIPES / "smoke.toml").read_text(encoding="utf-8")
    text, count = re.subn(old, lambda _: new, text, count=1)
    assert count
    (tmp_path / "recipe.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        check_recipe(tmp_path / "recipe.toml", tools=False)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken for one with other sizes, and it is missed before hours of training, not after them."""
    recipe = RECIPES / "voice.toml"
    monkeypatch.chdir(RECIPES.parent)
    for name, files in (
        ("build/voice-corpus", ["index.jsonl"]),
        ("build/voice-frontend", ["letter_to_sound.json", "durations.json"]),
    ):
        with pytest.raises(ConfigError, match=r"has no .* is missing\); a recipe's folders begin in the one where"):
            check_recipe(recipe)
        text = recipe.read_text(encoding="utf-8").replace(name, str(tmp_path))
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(text, encoding="utf-8")
        for file in files:
            with pytest.raises(ConfigError, match=rf"has no .* \({file} is missing\)"):
                check_recipe(recipe)
            (tmp_path / file).touch()
    assert check_recipe(recipe)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"section \[codec\]: checkpoints/voices/codec has no codec"):
        check_recipe(recipe, tools=False)


def test_only_our_own_codecs_have_a_decoder_to_train(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"kind": "dac", "num_codebooks": 4, "codebook_size": 16}')
    text = (RECIPES / "smoke.toml").read_text(encoding="utf-8")
    text = re.sub(r"\[codec\].*?\[frontend\]", f'[codec]\nfolder = "{tmp_path}"\n[frontend]', text, flags=re.DOTALL)
    (tmp_path / "recipe.toml").write_text(text, encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"section \[decoder\]: .* holds a codec of another kind; only our own can be"
    ):
        check_recipe(tmp_path / "recipe.toml", tools=False)
