"""The form of a text before it has phonemes: units of words, pauses, and the parts without a reading."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import Final

INNER_PAUSE = ","
"""Among a unit's words it marks a pause inside a value, such as between the groups of a phone number."""


STRONGEST_FIRST: Final = "?!.;:,"
"""Marks in the order of how much they say about the phrase before them."""
_SKIN_TONE = re.compile("[\U0001f3fb-\U0001f3ff]")


class Break(enum.IntEnum):
    """Strength of a pause. A text is cut at the strongest pauses with which the pieces fit."""

    CLAUSE = 1
    SENTENCE = 2
    LINE = 3
    PARAGRAPH = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """Words that are read together and never split: a word, or a complete value such as `$1.5 million`.

    `words` are in lower case; a single capital letter is that letter's name, and a name that is spelled like another
    word keeps its capital (Polish). `sounds` are the phonemes where the text gives them. `rate` is the speaking rate
    that the text asks for; 2 is twice as fast. `joined`: it belongs together with its neighbouring units.
    """

    words: tuple[str, ...]
    written: str
    sounds: tuple[str, ...] = ()
    rate: float = 1.0
    joined: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Pause:
    """Silence between units. `seconds` is None where the voice decides. `mark`: the punctuation that it stands for."""

    strength: Break = Break.CLAUSE
    seconds: float | None = None
    mark: str = ""


Item = Unit | Pause


@dataclass(kw_only=True)
class Dropped:
    """The unreadable parts of a text, each kind once, in the order of the text."""

    signs: dict[str, None] = field(default_factory=dict)

    def add(self, sign: str) -> None:
        """Note a part once; skin tones belong to the emoji before them, and after 20 kinds the rest is not listed."""
        if len(self.signs) < 20 and not _SKIN_TONE.fullmatch(sign):
            self.signs[sign] = None

    @property
    def warning(self) -> str:
        """One line that names the dropped parts; empty where there are none."""
        if not self.signs:
            return ""
        return f"left out, without a reading: {' '.join(self.signs)}"
