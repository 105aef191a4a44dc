"""First phrases of well-known tunes, all of them in the public domain, written in C major or A minor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from unimoe_runtime.frontend.notation import Chord, parse_chords


@dataclass(frozen=True, kw_only=True)
class Tune:
    """Notes of a tune, and their original key."""

    notes: str
    tonic: str = "C"
    mode: str = "major"

    def chords(self, semitones: int) -> tuple[Chord, ...]:
        """The notes, transposed by `semitones`."""
        return tuple(
            Chord(pitches=tuple(pitch + semitones for pitch in chord.pitches), beats=chord.beats)
            for chord in parse_chords(self.notes)
        )


TUNES: Final[Mapping[str, Tune]] = {
    "twinkle twinkle little star": Tune(notes="C4 C4 G4 G4 A4 A4 G4*2 F4 F4 E4 E4 D4 D4 C4*2"),
    "ode to joy": Tune(notes="E4 E4 F4 G4 G4 F4 E4 D4 C4 C4 D4 E4 E4*1.5 D4*0.5 D4*2"),
    "mary had a little lamb": Tune(notes="E4 D4 C4 D4 E4 E4 E4*2 D4 D4 D4*2 E4 G4 G4*2"),
    "frere jacques": Tune(notes="C4 D4 E4 C4 C4 D4 E4 C4 E4 F4 G4*2 E4 F4 G4*2"),
    "london bridge": Tune(notes="G4*1.5 A4*0.5 G4 F4 E4 F4 G4*2 D4 E4 F4*2 E4 F4 G4*2"),
    "jingle bells": Tune(notes="E4 E4 E4*2 E4 E4 E4*2 E4 G4 C4*1.5 D4*0.5 E4*2"),
    "row row row your boat": Tune(notes="C4*1.5 C4*1.5 C4 D4*0.5 E4*1.5 E4 D4*0.5 E4 F4*0.5 G4*2"),
    "happy birthday": Tune(notes="G4*0.5 G4*0.5 A4 G4 C5 B4*2 G4*0.5 G4*0.5 A4 G4 D5 C5*2"),
    "au clair de la lune": Tune(notes="C4 C4 C4 D4 E4*2 D4*2 C4 E4 D4 D4 C4*2"),
    "when the saints go marching in": Tune(notes="C4 E4 F4 G4*2 C4 E4 F4 G4*2"),
    "old macdonald": Tune(notes="C5 C5 C5 G4 A4 A4 G4*2 E5 E5 D5 D5 C5*2"),
    "amazing grace": Tune(notes="G3 C4*2 E4*0.5 C4*0.5 E4*2 D4 C4*2 A3 G3*2"),
    "yankee doodle": Tune(notes="C4 C4 D4 E4 C4 E4 D4*2 C4 C4 D4 E4 C4*2 B3*2"),
    "westminster chimes": Tune(notes="C4 E4 D4 G3*2 C4 D4 E4 C4*2"),
    "greensleeves": Tune(notes="A4 C5*2 D5 E5*1.5 F5*0.5 E5 D5*2 B4 G4*1.5 A4*0.5 B4", tonic="A", mode="minor"),
}
