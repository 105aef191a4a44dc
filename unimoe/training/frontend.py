"""Writes the front end of a model that is trained on a given corpus."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from unimoe.data.corpus import Corpus, Item
from unimoe.training.frontend_settings import FrontEndRecipe
from unimoe.training.rule_frontend import write_rule_frontend
from unimoe.training.stressed_frontend import write_stressed_frontend
from unimoe_runtime.errors import ConfigError
from unimoe_runtime.files.atomic import write_atomically
from unimoe_runtime.files.json import read_json
from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.frontend.timeline import Segment, Timeline, TimelineFrontEnd

__all__ = ["FrontEndRecipe", "check_paces", "recorded_timeline", "write_frontend"]


def write_frontend(folder: Path, corpus: Corpus, recipe: FrontEndRecipe, *, frame_rate_hz: float) -> TimelineFrontEnd:
    """Write a front end for the voices and instruments of `corpus`, and open it.

    A corpus with word numbers has stressed phonemes and gets a front end with stress. A prompt may be as long as the
    longest clip, and as what the front end predicts for the text of any clip. Raises ConfigError for paces of voices
    that the corpus lacks, or that have no predicted durations.
    """
    check_paces(recipe, corpus)
    folder.mkdir(parents=True, exist_ok=True)
    has_stress = any(item.word_numbers for item in corpus)
    write = write_stressed_frontend if has_stress else write_rule_frontend
    write(folder, corpus, recipe, frame_rate_hz=frame_rate_hz)
    frontend = _open(folder)
    predicted_s = [
        frontend.unlimited_timeline(*item.request()).duration_s
        for item in corpus
        if item.captioned and not item.word_numbers  # the others are trained with their recorded times
    ]
    needed = math.ceil(max(predicted_s, default=0.0) * frame_rate_hz)
    if needed <= frontend.max_frames:
        return frontend
    settings = read_json(folder / "frontend.json", ConfigError) | {"max_frames": needed}
    write_atomically(folder / "frontend.json", json.dumps(settings, indent=1) + "\n")
    return _open(folder)


def check_paces(recipe: FrontEndRecipe, corpus: Corpus) -> None:
    """Raise ConfigError for paces of voices that the corpus lacks, or whose durations are not predicted."""
    voices = list(dict.fromkeys(item.voice for item in corpus if item.word_numbers))
    if unknown := [voice for voice in recipe.paces if voice not in voices]:
        known = f"the voices with predicted durations are {', '.join(voices)}" if voices else "no voice has any"
        raise ConfigError(f"[frontend] paces: {unknown[0]!r} has no predicted durations in this corpus; {known}")


def _open(folder: Path) -> TimelineFrontEnd:
    frontend = open_frontend(folder)
    assert isinstance(frontend, TimelineFrontEnd)
    return frontend


def recorded_timeline(item: Item) -> Timeline:
    """Timeline of a spoken clip as recorded, with its own phonemes and durations.

    A model trained on it follows the given durations, so that speed and word times are exact.
    """
    lengths_s = np.diff([0.0, *(end_s for _, end_s in item.phonemes)])
    segments = tuple(
        Segment(token=f"phoneme:{phoneme}", duration_s=float(length_s))
        for (phoneme, _), length_s in zip(item.phonemes, lengths_s, strict=True)
    )
    return Timeline(source=f"voice:{item.voice}", segments=segments, caption=item.text)
