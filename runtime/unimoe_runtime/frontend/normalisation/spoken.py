"""What a text becomes before it has sounds: words that belong together, and pauses."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

INNER_PAUSE = ","
"""Stands among a unit's words where the voice pauses inside a value, such as between the groups of a phone number."""


STRONGEST_FIRST: Final = "?!.;:,"
"""Marks by how much they say about the phrase before them."""


class Break(enum.IntEnum):
    """How strong a pause is. A text is cut at the strongest pause that lets the pieces fit."""

    CLAUSE = 1
    SENTENCE = 2
    LINE = 3
    PARAGRAPH = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """Words that are read as one and that no cut divides: a word, or all of a value such as `$1.5 million`.

    `words` are in lower case; a single capital letter is that letter's name. `sounds` are the phonemes where the text
    gives them itself. `rate` is the speaking rate that the text asks for; 2 is twice as fast. `joined`: it is one
    with the units beside it.
    """

    words: tuple[str, ...]
    written: str
    sounds: tuple[str, ...] = ()
    rate: float = 1.0
    joined: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Pause:
    """Silence between units. `seconds` is None where the voice decides how long. `mark`: the punctuation that it is."""

    strength: Break = Break.CLAUSE
    seconds: float | None = None
    mark: str = ""


Item = Unit | Pause
