"""Descriptions of melodies: a caption with notes, or a friendly form that is expanded to notes before the model.

flute, 120 bpm: C4 E4 G4 C5
a C major scale on the piano at 100 bpm
arpeggio from G4, violin
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ..errors import PromptError

_STEPS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_ACCIDENTALS = {"#": 1, "♯": 1, "b": -1, "♭": -1, "": 0}
_SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11, 12),
    "minor": (0, 2, 3, 5, 7, 8, 10, 12),
    "pentatonic": (0, 2, 4, 7, 9, 12),
    "chromatic": (0, 1, 2, 3, 4, 5, 6, 7),
}
_ARPEGGIOS = {"major": (0, 4, 7, 12), "minor": (0, 3, 7, 12)}
_FILLERS = frozenset("a an the on at of in play with and from please melody notes note by solo starting".split())

_NOTE = r"(?P<letter>[a-g])(?P<accidental>[#♯b♭]?)(?P<octave>\d?)"
_NOTE_WORD = re.compile(rf"^{_NOTE}$", re.IGNORECASE)
_TEMPO = re.compile(r"(\d+(?:\.\d+)?)\s*bpm\b", re.IGNORECASE)
_DIRECTION = re.compile(r"\b(?:(down|descending)|up|ascending)\b", re.IGNORECASE)
_PATTERN = re.compile(
    rf"\b(?:{_NOTE}\s+)?(?:(?P<mode>major|minor|pentatonic|chromatic)\s+)?(?P<shape>scale|arpeggio)\b"
    rf"(?:\s+(?:starting\s+)?(?:from|on|at)\s+{_NOTE.replace('P<', 'P<from_')}(?!\w))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class MusicRange:
    """What melodies a model was trained on; the "music" section of frontend.json."""

    lowest_pitch: int
    highest_pitch: int
    lowest_tempo_bpm: float
    highest_tempo_bpm: float
    max_notes: int
    default_instrument: str
    default_tempo_bpm: float
    lead_s: float
    tail_s: float

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Melody:
    """Notes of one beat each; pitches are MIDI numbers (60 is C4)."""

    instrument: str
    tempo_bpm: float
    pitches: tuple[int, ...]

    @property
    def caption(self) -> str:
        """The melody in the plain form: instrument, tempo, notes."""
        return f"{self.instrument}, {self.tempo_bpm:g} bpm: {' '.join(map(note_name, self.pitches))}"


def note_name(pitch: int) -> str:
    """Name of a MIDI pitch, such as C#4 for 61."""
    return f"{_NAMES[pitch % 12]}{pitch // 12 - 1}"


def parse_description(text: str, instruments: Sequence[str], limits: MusicRange, instrument: str = "") -> Melody:
    """The melody that a description means. `instrument` plays where the description names none.

    Raises PromptError for an unknown instrument, word or note, and for a tempo, note or number of notes out of range.
    """
    rest, tempo_bpm = _take_tempo(text, limits)
    named = re.search(r"\b(" + "|".join(map(re.escape, instruments)) + r")\b", rest, re.IGNORECASE)
    if named:
        instrument = named[1].lower()
        rest = rest[: named.start()] + " " + rest[named.end() :]
    instrument = instrument or limits.default_instrument
    if instrument not in instruments:
        raise PromptError(f"there is no instrument {instrument!r}; it can be {', '.join(instruments)}")
    head, colon, tail = rest.rpartition(":")
    _reject_words(head, instruments)
    direction = _DIRECTION.search(tail)
    pattern = _PATTERN.search(_DIRECTION.sub("", tail))
    if pattern:
        tail = pattern.string
        _reject_words(tail[: pattern.start()] + " " + tail[pattern.end() :], instruments)
        pitches = _expand(pattern, limits, down=bool(direction and direction[1]))
    else:
        pitches = _notes(tail, instruments, limits, fillers=not colon)
    if not pitches:
        raise PromptError("the description has no notes: write them, such as 'flute, 120 bpm: C4 E4 G4 C5'")
    if len(pitches) > limits.max_notes:
        raise PromptError(f"the melody has {len(pitches)} notes; this model plays up to {limits.max_notes} at a time")
    for pitch in pitches:
        _check_pitch(pitch, limits)
    return Melody(instrument=instrument, tempo_bpm=tempo_bpm, pitches=tuple(pitches))


def _take_tempo(text: str, limits: MusicRange) -> tuple[str, float]:
    match = _TEMPO.search(text)
    if match is None:
        return text, limits.default_tempo_bpm
    tempo_bpm = float(match[1])
    if not limits.lowest_tempo_bpm <= tempo_bpm <= limits.highest_tempo_bpm:
        raise PromptError(
            f"{tempo_bpm:g} bpm is out of range: the tempo can be "
            f"{limits.lowest_tempo_bpm:g} to {limits.highest_tempo_bpm:g} bpm"
        )
    return text[: match.start()] + " " + text[match.end() :], tempo_bpm


def _reject_words(text: str, instruments: Sequence[str]) -> None:
    for word in re.findall(r"[^\s,.;!]+", text):
        if word.lower() not in _FILLERS:
            raise _unknown(word, instruments)


def _unknown(word: str, instruments: Sequence[str]) -> PromptError:
    return PromptError(
        f"{word!r} is neither a note (such as C4 or F#4) nor an instrument; instruments: {', '.join(instruments)}"
    )


def _notes(text: str, instruments: Sequence[str], limits: MusicRange, *, fillers: bool) -> list[int]:
    """Note names in order; one without an octave is taken nearest to the note before it."""
    pitches: list[int] = []
    for word in re.findall(r"[^\s,.;!|-]+", text):
        match = _NOTE_WORD.match(word)
        if fillers and word.lower() in _FILLERS and word != "A":
            continue
        if match is None:
            raise _unknown(word, instruments)
        centre = pitches[-1] if pitches else (limits.lowest_pitch + limits.highest_pitch) // 2
        pitches.append(_pitch(match["letter"], match["accidental"], match["octave"], centre))
    return pitches


def _pitch(letter: str, accidental: str, octave: str, centre: int) -> int:
    step = _STEPS[letter.lower()] + _ACCIDENTALS[accidental.lower()]
    if octave:
        return 12 * (int(octave) + 1) + step
    return step + 12 * round((centre - step) / 12)


def _expand(pattern: re.Match[str], limits: MusicRange, *, down: bool) -> list[int]:
    """Pitches of a scale or arpeggio. Without an octave it starts where all of it can be played."""
    mode = (pattern["mode"] or "major").lower()
    shapes = _SCALES if pattern["shape"].lower() == "scale" else _ARPEGGIOS
    if mode not in shapes:
        raise PromptError(f"there is no {mode} {pattern['shape']}; it can be {' or '.join(shapes)}")
    offsets = shapes[mode]
    which = "from_" if pattern["from_letter"] else ""
    letter, accidental, octave = (pattern[which + part] for part in ("letter", "accidental", "octave"))
    top_start = limits.highest_pitch - offsets[-1]
    start = _pitch(letter or "c", accidental or "", octave or "", (limits.lowest_pitch + top_start) // 2)
    pitches = [start + offset for offset in offsets]
    if down:
        pitches.reverse()
        if octave:  # "descending from C5" starts there
            pitches = [pitch - offsets[-1] for pitch in pitches]
    return pitches


def _check_pitch(pitch: int, limits: MusicRange) -> None:
    if not limits.lowest_pitch <= pitch <= limits.highest_pitch:
        raise PromptError(
            f"{note_name(pitch)} is out of range: notes can be "
            f"{note_name(limits.lowest_pitch)} to {note_name(limits.highest_pitch)}"
        )
