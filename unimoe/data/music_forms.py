"""Music that a caption can name: melodies in a key, scales, arpeggios, tunes, and two voices in harmony.

The rendered notes are those to which the front end expands the caption, so a caption is true by construction.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from unimoe.data.melodies import HIGHEST_PITCH, LOWEST_PITCH, TEMPI_BPM, Melody
from unimoe_runtime.frontend.notation import Chord
from unimoe_runtime.frontend.patterns import ARPEGGIOS, INTERVALS, SCALES, Direction, Pattern
from unimoe_runtime.frontend.tunes import TUNES

MAX_DURATION_S: Final = 8.6
_DIRECTIONS: Final[tuple[Direction, ...]] = ("up", "down", "up and down")
_RHYTHMS: Final = ((1.0,), (1.0, 1.0), (0.5, 0.5), (2.0,), (1.5, 0.5), (1.0, 0.5, 0.5))
"""Groups of beats that make up the rhythm of a melody in a key."""


def keynote(pitch: int) -> str:
    """Name of a key's first note in the most common spelling, such as Eb for 63."""
    return ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")[pitch % 12]


def _at_a_tempo(
    chords: Sequence[Chord], instrument: str, rng: random.Random, *, kind: str, key: str, piece: str
) -> Melody | None:
    """The chords at a tempo that keeps them within MAX_DURATION_S. None if no tempo fits or a note is out of range."""
    pitches = [pitch for chord in chords for pitch in chord.pitches]
    if min(pitches) < LOWEST_PITCH or max(pitches) > HIGHEST_PITCH:
        return None
    made = [
        Melody(chords=tuple(chords), tempo_bpm=tempo, instrument=instrument, kind=kind, key=key, piece=piece)
        for tempo in TEMPI_BPM
    ]
    fitting = [melody for melody in made if melody.duration_s <= MAX_DURATION_S]
    return rng.choice(fitting) if fitting else None


def draw_scale(instrument: str, rng: random.Random) -> Melody | None:
    """A scale of any mode, start and direction. One in eight scales of seven-note modes has two voices."""
    mode = rng.choice(tuple(SCALES))
    two_voices = len(SCALES[mode]) == 8 and mode != "chromatic" and rng.random() < 0.125
    interval = rng.choice(tuple(INTERVALS)) if two_voices else ""
    pattern = Pattern(shape="scale", mode=mode, direction=rng.choice(_DIRECTIONS), interval=interval)
    return _draw_pattern(pattern, instrument, rng)


def draw_arpeggio(instrument: str, rng: random.Random) -> Melody | None:
    """An arpeggio of any mode, start and direction."""
    pattern = Pattern(shape="arpeggio", mode=rng.choice(tuple(ARPEGGIOS)), direction=rng.choice(_DIRECTIONS))
    return _draw_pattern(pattern, instrument, rng)


def _draw_pattern(pattern: Pattern, instrument: str, rng: random.Random) -> Melody | None:
    start = rng.randint(LOWEST_PITCH, HIGHEST_PITCH - pattern.span)
    key = f"{keynote(start)} {pattern.mode}"
    voices = f" in {pattern.interval}" if pattern.interval else ""
    piece = f"{key} {pattern.shape}{voices} {pattern.direction}"
    return _at_a_tempo(pattern.chords(start), instrument, rng, kind=pattern.shape, key=key, piece=piece)


def draw_tune(instrument: str, rng: random.Random) -> Melody | None:
    """A tune of the front end, in any key in which the instrument can play it."""
    name = rng.choice(tuple(TUNES))
    tune = TUNES[name]
    semitones = rng.randint(-12, 18)
    tonic = {"C": 60, "A": 69}[tune.tonic] + semitones
    key = f"{keynote(tonic)} {tune.mode}"
    return _at_a_tempo(tune.chords(semitones), instrument, rng, kind="tune", key=key, piece=name)


def _draw_degrees(rng: random.Random, length: int) -> list[int]:
    """Steps of a scale: mostly to a neighbour, sometimes a leap. The last one is the keynote or its fifth."""
    degrees = [rng.choice((0, 2, 4, 7))]
    while len(degrees) < length:
        step = rng.choice((-1, -1, 1, 1, -2, 2, 0, rng.randint(-4, 4)))
        degrees.append(max(-3, min(10, degrees[-1] + step)))
    degrees[-1] = rng.choice((0, 0, 4, 7))
    return degrees


def _draw_phrase(rng: random.Random, *, second_voice: int = 0) -> tuple[list[Chord], str]:
    """Chords of a phrase in a key, and the key. `second_voice`: its distance below the melody in steps, 0 for none."""
    mode = rng.choice(("major", "major", "minor", "harmonic minor", "dorian", "mixolydian"))
    steps = SCALES[mode][:7]
    tonic = rng.randint(LOWEST_PITCH, HIGHEST_PITCH - 12)
    beats: list[float] = []
    while len(beats) < 4 or (len(beats) < 14 and rng.random() < 0.75):
        beats += rng.choice(_RHYTHMS)
    chords = []
    for degree, length in zip(_draw_degrees(rng, len(beats)), beats, strict=True):
        degrees = [degree] if second_voice == 0 else [degree - second_voice, degree]
        pitches = tuple(tonic + 12 * (at // 7) + steps[at % 7] for at in degrees)
        chords.append(Chord(pitches=pitches, beats=length))
    return chords, f"{keynote(tonic)} {mode}"


def draw_tonal(instrument: str, rng: random.Random) -> Melody | None:
    """A melody in a key, with notes of half a beat to two."""
    chords, key = _draw_phrase(rng)
    return _at_a_tempo(chords, instrument, rng, kind="melody", key=key, piece="")


def draw_harmony(instrument: str, rng: random.Random) -> Melody | None:
    """A melody in a key with a second voice a third or a sixth below."""
    chords, key = _draw_phrase(rng, second_voice=rng.choice((2, 2, 5)))
    return _at_a_tempo(chords, instrument, rng, kind="harmony", key=key, piece="")


FORMS: Final[dict[str, Callable[[str, random.Random], Melody | None]]] = {
    "tonal": draw_tonal,
    "scale": draw_scale,
    "arpeggio": draw_arpeggio,
    "tune": draw_tune,
    "harmony": draw_harmony,
}


def draw_forms(form: str, count: int, instrument: str, rng: random.Random) -> list[Melody]:
    """`count` different pieces of one of FORMS. The same notes at another tempo are another piece."""
    found: dict[tuple[str, int], Melody] = {}
    for _ in range(100 * count):
        if len(found) == count:
            break
        melody = FORMS[form](instrument, rng)
        if melody is not None:
            found.setdefault((melody.text, melody.tempo_bpm), melody)
    return list(found.values())
