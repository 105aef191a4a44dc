"""The learnt parts of the front end: lexicon, letter-to-sound model, duration predictor. A folder holds each part.

DIR/lexicon.bin
DIR/letter_to_sound.safetensors, letter_to_sound.json   the model, its section of frontend.json and its errors
DIR/durations.safetensors, durations.json               the same files for the duration predictor
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unimoe.data.cmudict import read_dictionary
from unimoe.data.corpus import Corpus
from unimoe.training import durations, letter_to_sound
from unimoe.training.durations import DurationErrors, DurationRecipe
from unimoe.training.letter_to_sound import LetterToSoundRecipe, PronunciationErrors
from unimoe.training.sequence_network import write_network
from unimoe_runtime.errors import CheckpointError, OutputError
from unimoe_runtime.files.atomic import write_atomically
from unimoe_runtime.files.json import read_json
from unimoe_runtime.frontend import duration_predictor, packed_lexicon
from unimoe_runtime.frontend import letter_to_sound as sound_model
from unimoe_runtime.frontend.duration_predictor import DurationSettings

Progress = Callable[[int, int, float], object]


def make_lexicon(
    folder: Path, recipe: LetterToSoundRecipe, progress: Progress = lambda *_: None
) -> PronunciationErrors:
    """Write the lexicon and a letter-to-sound model learnt from it. Returns the model's errors on held-out words."""
    _begin(folder, "letter_to_sound.json")
    dictionary = read_dictionary()
    packed_lexicon.write_lexicon(folder / packed_lexicon.FILE, dictionary)
    model = letter_to_sound.train_letter_to_sound(dictionary, recipe, progress)
    held_out = {
        word: sounds for word, sounds in dictionary.items() if word.isalpha() and letter_to_sound.is_held_out(word)
    }
    errors = letter_to_sound.pronunciation_errors(model, held_out)
    write_network(model.network, folder / sound_model.FILE)
    _write_note(folder / "letter_to_sound.json", model.settings().to_dict(), recipe.to_dict(), asdict(errors))
    return errors


def make_durations(
    folder: Path, corpus: Corpus, recipe: DurationRecipe, progress: Progress = lambda *_: None
) -> tuple[DurationErrors, DurationErrors]:
    """Write a predictor learnt from the training clips of `corpus`.

    Returns its errors on the test clips, and the errors of predicting each phoneme's mean.
    """
    _begin(folder, "durations.json")
    clips = [item for item in corpus if item.word_numbers]
    voices = list(dict.fromkeys(item.voice for item in clips))
    train = [durations.timed_text(item) for item in clips if item.split == "train"]
    held_out = [durations.timed_text(item) for item in clips if item.split == "test"]
    if not train or not held_out:
        raise OutputError("the corpus has no gathered clips of speech in both splits, train and test")
    predictor = durations.train_durations(train, voices, recipe, progress)
    write_network(predictor.network, folder / duration_predictor.FILE)
    errors = durations.duration_errors(lambda text: predictor.word_durations(text.voice, text.words), held_out)
    means = durations.duration_errors(durations.mean_predictor(train), held_out)
    section = DurationSettings(voices=tuple(voices), network=predictor.network.config, means=predictor.means).to_dict()
    _write_note(folder / "durations.json", section, recipe.to_dict(), asdict(errors))
    return errors, means


def read_section(path: Path) -> dict[str, Any]:
    """The section of frontend.json in a part's JSON file."""
    section = read_json(path, CheckpointError).get("section")
    if not isinstance(section, dict):
        raise CheckpointError(f"{path}: has no section; make it again")
    return section


def _begin(folder: Path, note: str) -> None:
    """Remove the old note: it comes last, so that a folder with a note is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / note).unlink(missing_ok=True)


def _write_note(path: Path, section: dict[str, Any], recipe: dict[str, Any], errors: dict[str, Any]) -> None:
    note = {"section": section, "recipe": recipe, "held_out_errors": errors}
    write_atomically(path, json.dumps(note, indent=1) + "\n")
