"""Opens a front end's files of pronunciations and durations: tables of rules, or a dictionary and networks."""

from __future__ import annotations

from pathlib import Path

from unimoe_runtime.frontend import packed_lexicon
from unimoe_runtime.frontend.duration_predictor import DurationPredictor
from unimoe_runtime.frontend.durations import DurationTable
from unimoe_runtime.frontend.letter_to_sound import LetterToSound
from unimoe_runtime.frontend.lexicon import Lexicon
from unimoe_runtime.frontend.packed_lexicon import PackedLexicon
from unimoe_runtime.frontend.pronunciation import Pronouncer
from unimoe_runtime.frontend.protocols import Durations, Pronunciations
from unimoe_runtime.frontend.settings import TimelineSettings


def read_pronunciations(folder: Path, settings: TimelineSettings) -> Pronunciations:
    """The lexicon and its letter-to-sound rules or network. Raises BundleError."""
    if settings.letter_to_sound is None:
        return Lexicon.read(folder / "lexicon.tsv", folder / "letter_to_sound.tsv")
    dictionary = PackedLexicon.read(folder / packed_lexicon.FILE)
    return Pronouncer(dictionary=dictionary, sound_out=LetterToSound.read(folder, settings.letter_to_sound))


def read_durations(folder: Path, settings: TimelineSettings) -> Durations:
    """The table of mean durations, or the predictor. Raises BundleError."""
    if settings.durations is None:
        return DurationTable.read(folder / "durations.tsv")
    return DurationPredictor.read(folder, settings.durations)
