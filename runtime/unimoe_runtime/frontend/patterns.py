"""Scales and arpeggios by name, expanded to notes: `D minor scale`, `F# major arpeggio down`, `scale in thirds`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from unimoe_runtime.frontend.notation import Chord

Shape = Literal["scale", "arpeggio"]
Direction = Literal["up", "down", "up and down"]

SCALES: Final[Mapping[str, tuple[int, ...]]] = {
    "major": (0, 2, 4, 5, 7, 9, 11, 12),
    "minor": (0, 2, 3, 5, 7, 8, 10, 12),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11, 12),
    "melodic minor": (0, 2, 3, 5, 7, 9, 11, 12),
    "dorian": (0, 2, 3, 5, 7, 9, 10, 12),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10, 12),
    "pentatonic": (0, 2, 4, 7, 9, 12),
    "minor pentatonic": (0, 3, 5, 7, 10, 12),
    "blues": (0, 3, 5, 6, 7, 10, 12),
    "whole tone": (0, 2, 4, 6, 8, 10, 12),
    "chromatic": (0, 1, 2, 3, 4, 5, 6, 7),
}
"""Semitones above the first note, in ascending order; a chromatic scale stops at the eighth note."""
ARPEGGIOS: Final[Mapping[str, tuple[int, ...]]] = {
    "major": (0, 4, 7, 12),
    "minor": (0, 3, 7, 12),
    "diminished": (0, 3, 6, 12),
    "augmented": (0, 4, 8, 12),
    "seventh": (0, 4, 7, 10, 12),
}
SYNONYMS: Final[Mapping[str, str]] = {
    "natural minor": "minor",
    "major pentatonic": "pentatonic",
    "dominant seventh": "seventh",
}
INTERVALS: Final[Mapping[str, int]] = {"thirds": 2, "sixths": 5, "octaves": 7}
"""Distance of a second voice above the first, in steps of a seven-note scale."""


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """A scale or arpeggio, and its direction. `interval` is one of INTERVALS, or empty for a single voice."""

    shape: Shape
    mode: str = "major"
    direction: Direction = "up"
    interval: str = ""

    @property
    def span(self) -> int:
        """Semitones from the lowest to the highest note."""
        return max(pitch for voices in self._upwards() for pitch in voices)

    def chords(self, lowest_pitch: int) -> tuple[Chord, ...]:
        """The notes, one beat each, with `lowest_pitch` as the lowest."""
        run = self._upwards()
        if self.direction == "down":
            run.reverse()
        elif self.direction == "up and down":
            run += run[-2::-1]
        return tuple(Chord(pitches=tuple(lowest_pitch + offset for offset in voices)) for voices in run)

    def _upwards(self) -> list[tuple[int, ...]]:
        offsets = (SCALES if self.shape == "scale" else ARPEGGIOS)[self.mode]
        if not self.interval:
            return [(offset,) for offset in offsets]
        steps = offsets[:-1]
        above = [index + INTERVALS[self.interval] for index in range(len(offsets))]
        second = [12 * (index // len(steps)) + steps[index % len(steps)] for index in above]
        return list(zip(offsets, second, strict=True))
