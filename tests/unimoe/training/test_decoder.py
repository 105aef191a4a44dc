"""A recipe with [decoder], from data to checkpoint: only the codec's decoder changes, and nothing is done twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from tests.command_line import output_of
from tests.runtime.frontend.small_frontend import write_frontend
from tests.unimoe.training.tiny_recipe import DECODER, RATE_HZ, RECIPE, write_corpus
from unimoe.checkpoint import load_model, save_checkpoint
from unimoe.cli.group import cli
from unimoe.codec.settings import PredictedTraining
from unimoe.data.corpus import Corpus, Item
from unimoe.training.decoder import chosen_clips
from unimoe.training.examples import read_codes
from unimoe_runtime.errors import ConfigError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe and its working folder, trained without [decoder]."""
    folder = tmp_path_factory.mktemp("decoder")
    write_corpus(folder / "corpus")
    write_frontend(folder / "work" / "frontend")
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(folder=folder))
    output_of("train", recipe, "--work", folder / "work", "--out", folder / "before")
    recipe.write_text(RECIPE.format(folder=folder) + DECODER)
    return folder


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def assert_only_the_decoder_differs(one: Path, other: Path) -> None:
    before, after = (load_file(codec / "model.safetensors") for codec in (one, other))
    differ = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert differ and all(name.startswith("decoder.") for name in differ)


@pytest.mark.slow
def test_a_recipes_decoder_is_trained_on_predictions(folder: Path) -> None:
    recipe, work = folder / "recipe.toml", folder / "work"
    joint = times(work / "joint")
    shown = output_of("train", recipe, "--work", work)
    assert "predicting the tokens of 7 clips" in shown and "codec's decoder on predicted tokens: steps 0 to 3" in shown
    assert times(work / "joint") == joint, "no earlier stage runs again"
    before, after = folder / "before", work / "checkpoint"
    assert (before / "model.safetensors").read_bytes() == (after / "model.safetensors").read_bytes()
    assert_only_the_decoder_differs(before / "codec", after / "codec")
    codes = read_codes(work / "predicted" / "00000.npz", 7)
    assert {len(codes_TK) for codes_TK in codes} == {50, 51, 52, 53}
    assert all(codes_TK.shape[1] == 3 and codes_TK.min() >= 0 and codes_TK.max() < 16 for codes_TK in codes)
    assert json.loads((after / "config.json").read_text())["provenance"]["recipe"]["decoder"]["music_clips"] == 2

    made = times(work / "predicted") | times(work / "predicted-run")
    output_of("train", recipe, "--work", work)
    assert times(work / "predicted") | times(work / "predicted-run") == made, "the second command does nothing again"

    shutil.rmtree(work / "predicted-run")
    weights = (after / "codec" / "model.safetensors").read_bytes()
    output_of("train", recipe, "--work", work)
    assert (after / "codec" / "model.safetensors").read_bytes() == weights

    text = recipe.read_text()
    recipe.write_text(text + "true_share = 0.5\n")
    refused = CliRunner().invoke(cli, ["train", str(recipe), "--work", str(work)])
    recipe.write_text(text)
    assert "predicted-run was made from another [data] and [joint]" in str(refused.exception)
    assert (after / "codec" / "model.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_a_borrowed_machines_model_gets_its_decoder_here(folder: Path, tmp_path: Path) -> None:
    for name in ("predicted", "predicted-run"):
        shutil.rmtree(folder / "work" / name, ignore_errors=True)
    save_checkpoint(tmp_path / "result" / "model", load_model(folder / "before"))
    shutil.copytree(folder / "before" / "codec", tmp_path / "result" / "codec")
    (tmp_path / "result" / "result.json").write_text("{}")
    work = folder / "work"
    output_of("train", "unpack", folder / "recipe.toml", tmp_path / "result", tmp_path / "made", "--work", work)
    assert_only_the_decoder_differs(tmp_path / "result" / "codec", tmp_path / "made" / "codec")


def test_the_clips_to_predict_are_drawn_by_domain() -> None:
    audio_L = np.zeros(1, np.int16)
    items = tuple(
        Item(
            source="some",
            domain="music" if number % 3 else "speech",
            kind="words",
            text="",
            offset=0,
            length=1,
            split="valid" if number % 5 == 0 else "train",
            audio_L=audio_L,
        )
        for number in range(30)
    )
    corpus = Corpus(sample_rate_hz=RATE_HZ, licences={}, items=items)
    everything = chosen_clips(corpus, PredictedTraining())
    assert everything == [number for number in range(30) if number % 5]
    some = chosen_clips(corpus, PredictedTraining(speech_clips=100, music_clips=4))
    assert some == sorted(some) == chosen_clips(corpus, PredictedTraining(speech_clips=100, music_clips=4))
    assert [number for number in some if number % 3 == 0] == [number for number in everything if number % 3 == 0]
    assert len([number for number in some if number % 3]) == 4
    speech = Corpus(sample_rate_hz=RATE_HZ, licences={}, items=items[::3])
    assert len(chosen_clips(speech, PredictedTraining())) == 8


def test_a_mistake_in_the_section_is_one_line_before_anything_runs(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(folder=tmp_path) + DECODER + "steps = 3\n")
    refused = CliRunner().invoke(cli, ["train", str(recipe), "--work", str(tmp_path / "work")]).exception
    assert isinstance(refused, ConfigError) and "\n" not in str(refused)
    assert "section [decoder]: PredictedTraining does not know the field 'steps'" in str(refused)
    assert not (tmp_path / "work").exists()
