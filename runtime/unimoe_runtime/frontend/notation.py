"""The notation of notes: `C4 E4*0.5 C4+E4`.

A note has a letter, an optional sharp or flat, and an octave (C4 is MIDI pitch 60). A note without an octave takes the
one nearest to the note before it. `+` joins simultaneous notes; `*` precedes their number of beats.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from re import Match

_STEPS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_ACCIDENTALS = {"#": 1, "♯": 1, "b": -1, "♭": -1, "": 0}

_NOTE = re.compile(r"([a-g])([#♯b♭]?)(\d?)", re.IGNORECASE)
_CHORD = re.compile(rf"(?P<notes>{_NOTE.pattern}(?:\+{_NOTE.pattern})*)(?:\*(?P<beats>\d*\.?\d+))?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Chord:
    """Simultaneous notes, often a single one: MIDI pitches, and their duration in beats."""

    pitches: tuple[int, ...]
    beats: float = 1.0

    @property
    def text(self) -> str:
        """Its notation, such as C4+E4*0.5."""
        names = "+".join(map(note_name, self.pitches))
        return names if self.beats == 1 else f"{names}*{self.beats:g}"


def note_name(pitch: int) -> str:
    """Name of a MIDI pitch with sharps and the octave, such as C#4 for 61."""
    return f"{_NAMES[pitch % 12]}{pitch // 12 - 1}"


def write_chords(chords: Sequence[Chord]) -> str:
    """The notation of several chords."""
    return " ".join(chord.text for chord in chords)


def parse_chords(text: str) -> list[Chord]:
    """Chords of a text that `write_chords` wrote. Raises ValueError for a word that is not a chord."""
    chords = []
    for word in text.split():
        chord = parse_chord(word, 60)
        if chord is None:
            raise ValueError(f"{word!r} is not a note")
        chords.append(chord)
    return chords


def parse_chord(word: str, centre: int) -> Chord | None:
    """The chord of a word, or None. A first note without an octave takes the one nearest to `centre`."""
    match = _CHORD.fullmatch(word)
    if match is None:
        return None
    pitches: list[int] = []
    for note in match["notes"].split("+"):
        pitches.append(parse_pitch(note, pitches[-1] if pitches else centre))
    return Chord(pitches=tuple(pitches), beats=float(match["beats"] or 1))


def match_note(word: str) -> Match[str] | None:
    """A match with the groups letter, accidental and octave, where the word is a single note."""
    return _NOTE.fullmatch(word)


def parse_pitch(note: str, centre: int) -> int:
    """MIDI pitch of a note; without an octave, the pitch nearest to `centre`."""
    match = match_note(note)
    if match is None:
        raise ValueError(f"{note!r} is not a note")
    letter, accidental, octave = match.groups()
    step = _STEPS[letter.lower()] + _ACCIDENTALS[accidental.lower()]
    if octave:
        return 12 * (int(octave) + 1) + step
    return step + 12 * round((centre - step) / 12)
