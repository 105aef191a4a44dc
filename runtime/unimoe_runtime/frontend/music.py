"""Descriptions of music: a caption with notes, or a free form, which is expanded to notes before it reaches the model.

flute, 120 bpm: C4 E4 G4*2 C4+E4
a C major scale on the piano at 100 bpm
D minor arpeggio up and down, violin
twinkle twinkle little star in G on the trumpet
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from unimoe_runtime.errors import PromptError
from unimoe_runtime.frontend.notation import Chord, match_note, note_name, parse_chord, parse_pitch, write_chords
from unimoe_runtime.frontend.patterns import ARPEGGIOS, INTERVALS, SCALES, SYNONYMS, Direction, Pattern, Shape
from unimoe_runtime.frontend.tunes import TUNES
from unimoe_runtime.records import Between, JsonRecord, Length, require

_FILLERS = frozenset("a an the on at of in play with and from please melody tune notes note by solo starting".split())
_TEMPO = re.compile(r"(?<![\w.,])([-+]?\d+(?:\.\d+)?)\s*bpm\b", re.IGNORECASE)
_MODE_NAMES = sorted({*SCALES, *ARPEGGIOS, *SYNONYMS}, key=lambda name: -len(name))
_MODE = re.compile(rf"\b({'|'.join(_MODE_NAMES)})\b", re.IGNORECASE)
_SHAPE = re.compile(r"\b(scale|arpeggio)\b", re.IGNORECASE)
_DIRECTION = re.compile(
    r"\b(?:(?P<both>up and down)|(?P<down>down(?:wards?)?|descending)|up(?:wards?)?|ascending)\b", re.IGNORECASE
)
_INTERVAL = re.compile(rf"\bin ({'|'.join(INTERVALS)})\b", re.IGNORECASE)
_TUNE_NAME = re.compile(r"\b(" + "|".join(name.replace(" ", r"[\s,]+") for name in TUNES) + r")\b", re.IGNORECASE)


Pitch = Annotated[int, Between(0, 127)]
Tempo = Annotated[float, Between(1, 1000)]


@dataclass(frozen=True, kw_only=True)
class MusicRange(JsonRecord):
    """The range of a model's training music; the "music" section of frontend.json. `max_voices`: simultaneous notes."""

    lowest_pitch: Pitch
    highest_pitch: Pitch
    lowest_tempo_bpm: Tempo
    highest_tempo_bpm: Tempo
    max_notes: Annotated[int, Between(1, 1 << 16)]
    default_instrument: Annotated[str, Length(1, 256)]
    default_tempo_bpm: Tempo
    lead_s: Annotated[float, Between(0, 60)]
    tail_s: Annotated[float, Between(0, 60)]
    max_voices: Annotated[int, Between(1, 128)] = 1
    shortest_beats: Annotated[float, Between(0.01, 64)] = 1.0
    longest_beats: Annotated[float, Between(0.01, 64)] = 1.0

    def check_together(self) -> None:
        for low, high in (
            ("lowest_pitch", "highest_pitch"), ("lowest_tempo_bpm", "highest_tempo_bpm"),
            ("shortest_beats", "longest_beats"),
        ):  # fmt: skip
            require(getattr(self, low) <= getattr(self, high), low, getattr(self, low), f"at most {high}")

    @property
    def centre(self) -> int:
        return (self.lowest_pitch + self.highest_pitch) // 2


@dataclass(frozen=True, kw_only=True)
class Melody:
    """A sequence of chords; a chord is one note or several simultaneous notes."""

    instrument: str
    tempo_bpm: float
    chords: tuple[Chord, ...]

    @property
    def caption(self) -> str:
        """The melody as a caption: instrument, tempo, notes."""
        return f"{self.instrument}, {self.tempo_bpm:g} bpm: {write_chords(self.chords)}"


def parse_description(text: str, instruments: Sequence[str], limits: MusicRange, instrument: str = "") -> Melody:
    """The melody of a description. `instrument` applies where the description names none.

    Raises PromptError for an unknown instrument, word or note, and for a tempo, note or number of notes out of range.
    """
    rest, tempo_bpm = _take_tempo(text, limits)
    tune, rest = _take(_TUNE_NAME, _plain(rest))  # before instruments, because a tune's name may contain one
    named, rest = _take(re.compile(r"\b(" + "|".join(map(re.escape, instruments)) + r")\b", re.IGNORECASE), rest)
    instrument = named[1].lower() if named else instrument or limits.default_instrument
    if instrument not in instruments:
        raise PromptError(f"there is no instrument {instrument!r}; it can be {', '.join(instruments)}")
    head, colon, tail = rest.rpartition(":")
    _reject_words(head, instruments)
    if tune:
        chords = _tune(" ".join(re.findall(r"\w+", tune[1].lower())), tail, instruments, limits)
    elif _SHAPE.search(tail):
        chords = _pattern(tail, instruments, limits)
    else:
        chords = _notes(tail, instruments, limits, fillers=not colon)
    if not chords:
        raise PromptError("the description has no notes: write them, such as 'flute, 120 bpm: C4 E4 G4 C5'")
    _check(chords, limits)
    return Melody(instrument=instrument, tempo_bpm=tempo_bpm, chords=tuple(chords))


def _plain(text: str) -> str:
    """The text without accents, so that Frère Jacques is found."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))


def _take(pattern: re.Pattern[str], text: str) -> tuple[re.Match[str] | None, str]:
    """The first match, and the text without it."""
    match = pattern.search(text)
    return (match, f"{text[: match.start()]} {text[match.end() :]}") if match else (None, text)


def _take_tempo(text: str, limits: MusicRange) -> tuple[str, float]:
    match, rest = _take(_TEMPO, text)
    if match is None:
        return text, limits.default_tempo_bpm
    tempo_bpm = float(match[1])
    if not limits.lowest_tempo_bpm <= tempo_bpm <= limits.highest_tempo_bpm:
        raise PromptError(
            f"{tempo_bpm:g} bpm is out of range: the tempo can be "
            f"{limits.lowest_tempo_bpm:g} to {limits.highest_tempo_bpm:g} bpm"
        )
    return rest, tempo_bpm


def _words(text: str) -> list[str]:
    return [word.strip(".") for word in re.findall(r"[^\s,;!|-]+", text) if word.strip(".")]


def _reject_words(text: str, instruments: Sequence[str]) -> None:
    for word in _words(text):
        if word.lower() not in _FILLERS:
            raise _unknown(word, instruments)


def _unknown(word: str, instruments: Sequence[str]) -> PromptError:
    return PromptError(
        f"{word!r} is neither a note (such as C4 or F#4) nor an instrument; instruments: {', '.join(instruments)}"
    )


def _notes(text: str, instruments: Sequence[str], limits: MusicRange, *, fillers: bool) -> list[Chord]:
    """Notes in order; a note without an octave takes the octave nearest to the note before it."""
    chords: list[Chord] = []
    for word in _words(text):
        if fillers and word.lower() in _FILLERS and word != "A":
            continue
        chord = parse_chord(word, chords[-1].pitches[0] if chords else limits.centre)
        if chord is None:
            raise _unknown(word, instruments)
        chords.append(chord)
    return chords


def _take_key(text: str, instruments: Sequence[str], *, in_mode: bool) -> str:
    """The note that a description of a scale or tune names last, such as "D" or "F#4"; empty where it names none.

    A lower-case "a" is an article, but before a mode it is a key.
    """
    words = _words(text)
    named = [word for word in words if match_note(word) and (word != "a" or in_mode)]
    _reject_words(" ".join(word for word in words if word not in named), instruments)
    return named[-1] if named else ""


def _pattern(text: str, instruments: Sequence[str], limits: MusicRange) -> Sequence[Chord]:
    """Notes of a scale or arpeggio. Without an octave it lies in the middle of the playable range."""
    direction, rest = _take(_DIRECTION, text)
    interval, rest = _take(_INTERVAL, rest)
    shape_name, rest = _take(_SHAPE, rest)
    mode_name, rest = _take(_MODE, rest)
    shape: Shape = "arpeggio" if shape_name and shape_name[1].lower() == "arpeggio" else "scale"
    mode = mode_name[1].lower() if mode_name else "major"
    mode = SYNONYMS.get(mode, mode)
    shapes = SCALES if shape == "scale" else ARPEGGIOS
    if mode not in shapes:
        raise PromptError(f"there is no {mode} {shape}; it can be {', '.join(shapes)}")
    if interval and (shape == "arpeggio" or len(shapes[mode]) != 8 or mode == "chromatic"):
        raise PromptError(f"there is no {mode} {shape} in {interval[1].lower()}; take a scale of seven notes")
    run: Direction = "up"
    if direction:
        run = "up and down" if direction["both"] else "down" if direction["down"] else "up"
    pattern = Pattern(shape=shape, mode=mode, direction=run, interval=interval[1].lower() if interval else "")
    key = _take_key(rest, instruments, in_mode=mode_name is not None) or "C"
    start = parse_pitch(key, limits.centre - pattern.span // 2)
    if run == "down" and key[-1].isdigit():  # "descending from C5" starts there
        start -= pattern.span
    return pattern.chords(start)


def _tune(name: str, text: str, instruments: Sequence[str], limits: MusicRange) -> Sequence[Chord]:
    """Notes of a tune in the key that the rest of the description names, else in its original key."""
    tune = TUNES[name]
    mode, rest = _take(_MODE, text)
    if mode and mode[1].lower() != tune.mode:
        raise PromptError(f"{name} is in {tune.mode}, not in {mode[1].lower()}")
    key = _take_key(rest, instruments, in_mode=mode is not None) or tune.tonic
    semitones = parse_pitch(key, 60) - parse_pitch(tune.tonic, 60)
    if not key[-1].isdigit():
        pitches = [pitch for chord in tune.chords(semitones) for pitch in chord.pitches]
        semitones += 12 * round((limits.centre - (min(pitches) + max(pitches)) / 2) / 12)
    return tune.chords(semitones)


def _check(chords: Sequence[Chord], limits: MusicRange) -> None:
    if len(chords) > limits.max_notes:
        raise PromptError(f"the melody has {len(chords)} notes; this model plays up to {limits.max_notes} at a time")
    for chord in chords:
        if len(chord.pitches) > limits.max_voices:
            raise PromptError(f"{chord.text} strikes {len(chord.pitches)} notes at once; this model {_at_once(limits)}")
        if not limits.shortest_beats <= chord.beats <= limits.longest_beats:
            raise PromptError(f"{chord.text} is out of range: this model plays notes of {_lasting(limits)}")
        for pitch in chord.pitches:
            if not limits.lowest_pitch <= pitch <= limits.highest_pitch:
                raise PromptError(
                    f"{note_name(pitch)} is out of range: notes can be "
                    f"{note_name(limits.lowest_pitch)} to {note_name(limits.highest_pitch)}"
                )


def _lasting(limits: MusicRange) -> str:
    if limits.shortest_beats == limits.longest_beats == 1:
        return "one beat"
    return f"{limits.shortest_beats:g} to {limits.longest_beats:g} beats"


def _at_once(limits: MusicRange) -> str:
    return "plays one at a time" if limits.max_voices == 1 else f"plays up to {limits.max_voices}"
