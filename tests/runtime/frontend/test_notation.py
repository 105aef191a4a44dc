"""Notes in their usual notations."""

from __future__ import annotations

import pytest

from unimoe_runtime.frontend.notation import Chord, note_name, parse_chords, write_chords


def test_notes_are_read_and_written() -> None:
    chords = parse_chords("C4*2 E4+G4")
    assert chords == [Chord(pitches=(60,), beats=2.0), Chord(pitches=(64, 67), beats=1.0)]
    assert write_chords(chords) == "C4*2 E4+G4"


@pytest.mark.parametrize(("pitch", "name"), [(60, "C4"), (61, "C#4"), (69, "A4"), (36, "C2"), (84, "C6")])
def test_names(pitch: int, name: str) -> None:
    assert note_name(pitch) == name
