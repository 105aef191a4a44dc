"""Writes a front end with stress: packed lexicon, letter-to-sound network, duration network and frontend.json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from unimoe.data.corpus import Corpus
from unimoe.training.durations import DurationRecipe
from unimoe.training.frontend_parts import make_durations, make_lexicon, read_section
from unimoe.training.frontend_settings import FrontEndRecipe, common_settings
from unimoe.training.letter_to_sound import LetterToSoundRecipe
from unimoe_runtime.files.atomic import write_atomically
from unimoe_runtime.frontend import duration_predictor, letter_to_sound, packed_lexicon
from unimoe_runtime.frontend.pronunciation import MARKS, PAUSE, PHONEMES
from unimoe_runtime.frontend.timeline import STRESS_VERSION

_LICENCE = Path(__file__).parents[2] / "licenses" / "cmudict.txt"


def write_stressed_frontend(folder: Path, corpus: Corpus, recipe: FrontEndRecipe, *, frame_rate_hz: float) -> None:
    """Write a front end for the voices and instruments of `corpus`, whose items have word numbers.

    Its learnt parts come from the folder `recipe.parts`. Where that is not set, they are made in a new folder beside
    `folder`, whose name ends in -parts.
    """
    parts = Path(recipe.parts) if recipe.parts else folder.with_name(f"{folder.name}-parts")
    if not (parts / "letter_to_sound.json").exists():
        make_lexicon(parts, LetterToSoundRecipe())
    if not (parts / "durations.json").exists():
        make_durations(parts, corpus, DurationRecipe())
    settings = common_settings(corpus, recipe, (PAUSE, *MARKS, *PHONEMES), frame_rate_hz=frame_rate_hz)
    settings |= {
        "format_version": STRESS_VERSION,
        "letter_to_sound": read_section(parts / "letter_to_sound.json"),
        "durations": {**read_section(parts / "durations.json"), "paces": recipe.paces},
    }
    for name in (packed_lexicon.FILE, letter_to_sound.FILE, duration_predictor.FILE):
        shutil.copyfile(parts / name, folder / name)
    if _LICENCE.exists():  # the lexicon's licence requires its notice beside it
        shutil.copyfile(_LICENCE, folder / "LICENCE-lexicon.txt")
    write_atomically(folder / "frontend.json", json.dumps(settings, indent=1) + "\n")
