"""Descriptions of music: notes, patterns, tunes in every key."""

from __future__ import annotations

import pytest

from tests.runtime.frontend.small_frontend import MUSIC, write_frontend
from unimoe_runtime.errors import PromptError
from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.frontend.timeline import TimelineFrontEnd
from unimoe_runtime.frontend.tunes import TUNES


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("flute, 120 bpm: C4 E4 G4 C5", "flute, 120 bpm: C4 E4 G4 C5"),
        ("a C major scale on the piano at 100 bpm", "piano, 100 bpm: C4 D4 E4 F4 G4 A4 B4 C5"),
        ("arpeggio from G4", "piano, 120 bpm: G4 B4 D5 G5"),
        ("an F# minor arpeggio on the flute descending", "flute, 120 bpm: F#5 C#5 A4 F#4"),
        ("a minor scale from D4", "piano, 120 bpm: D4 E4 F4 G4 A4 A#4 C5 D5"),
        ("scale down from C5", "piano, 120 bpm: C5 B4 A4 G4 F4 E4 D4 C4"),
        ("Bb4 A G, 90bpm", "piano, 90 bpm: A#4 A4 G4"),
        ("scale of D minor", "piano, 120 bpm: D4 E4 F4 G4 A4 A#4 C5 D5"),
        ("play a scale", "piano, 120 bpm: C4 D4 E4 F4 G4 A4 B4 C5"),
        ("A harmonic minor scale downwards", "piano, 120 bpm: A4 G#4 F4 E4 D4 C4 B3 A3"),
        ("E minor pentatonic scale from E4", "piano, 120 bpm: E4 G4 A4 B4 D5 E5"),
        ("C dominant seventh arpeggio", "piano, 120 bpm: C4 E4 G4 A#4 C5"),
        ("D diminished arpeggio up and down, flute", "flute, 120 bpm: D4 F4 G#4 D5 G#4 F4 D4"),
    ],
)
def test_descriptions_become_notes(frontend: TimelineFrontEnd, text: str, caption: str) -> None:
    assert frontend.build_prompt("music", text).caption == caption


@pytest.fixture(scope="module")
def orchestra(tmp_path_factory: pytest.TempPathFactory) -> TimelineFrontEnd:
    """A front end that also plays tunes and two voices."""
    music = MUSIC | {"max_notes": 16, "max_voices": 2, "shortest_beats": 0.5, "longest_beats": 3.0}
    opened = open_frontend(write_frontend(tmp_path_factory.mktemp("orchestra"), music=music, max_frames=600))
    assert isinstance(opened, TimelineFrontEnd)
    return opened


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("C4*2 E4*0.5, C4+E4 G3+B*1.5", "piano, 120 bpm: C4*2 E4*0.5 C4+E4 G3+B3*1.5"),
        ("a C major scale in thirds", "piano, 120 bpm: C4+E4 D4+F4 E4+G4 F4+A4 G4+B4 A4+C5 B4+D5 C5+E5"),
        (
            "Twinkle, twinkle little star in G on the flute",
            "flute, 120 bpm: G4 G4 D5 D5 E5 E5 D5*2 C5 C5 B4 B4 A4 A4 G4*2",
        ),
        ("Frère Jacques in D", "piano, 120 bpm: D4 E4 F#4 D4 D4 E4 F#4 D4 F#4 G4 A4*2 F#4 G4 A4*2"),
        ("when the saints go marching in", "piano, 120 bpm: C4 E4 F4 G4*2 C4 E4 F4 G4*2"),
        (
            "greensleeves in e minor, 100 bpm",
            "piano, 100 bpm: E4 G4*2 A4 B4*1.5 C5*0.5 B4 A4*2 F#4 D4*1.5 E4*0.5 F#4",
        ),
    ],
)
def test_tunes_and_two_voices_become_notes(orchestra: TimelineFrontEnd, text: str, caption: str) -> None:
    assert orchestra.build_prompt("music", text).caption == caption


@pytest.mark.parametrize("name", list(TUNES))
@pytest.mark.parametrize("key", ["", "in C", "in F#", "in Ab", "in B"])
def test_every_tune_can_be_played_in_every_key(orchestra: TimelineFrontEnd, name: str, key: str) -> None:
    assert orchestra.build_prompt("music", f"{name} {key}, 120 bpm").expected_frames


def test_notes_struck_together_stand_at_one_time(orchestra: TimelineFrontEnd) -> None:
    timeline = orchestra.timeline("music", "120 bpm: C4+E4*2 G4", "piano")
    assert timeline.duration_s == pytest.approx(0.1 + 1.0 + 0.5 + 0.3)
    _, positions = orchestra.row(timeline)
    assert positions[2:5] == pytest.approx([1.5 + 5 + 25, 1.5 + 5 + 25, 1.5 + 5 + 50 + 12.5])


@pytest.mark.parametrize("letter", [f"{name}{sign}" for name in "ABCDEFG" for sign in ("", "#", "b")])
@pytest.mark.parametrize("shape", ["major scale", "blues scale down", "pentatonic scale", "major arpeggio"])
def test_every_key_can_be_played(frontend: TimelineFrontEnd, letter: str, shape: str) -> None:
    assert frontend.build_prompt("music", f"{letter} {shape}").expected_frames


def test_notes_stand_in_the_middle_of_their_beat(frontend: TimelineFrontEnd) -> None:
    _, positions = frontend.row(frontend.timeline("music", "100 bpm: C4 D4", "flute"))
    beat = 30  # frames
    assert positions[2:4] == pytest.approx([1.5 + 5 + beat / 2, 1.5 + 5 + 1.5 * beat])


@pytest.mark.parametrize("tempo", ["-90", "+-90", "1e90", "x90", "1.2.90", "9,090", "٣90", "nan", "inf", "0x90"])
def test_a_tempo_that_is_no_number_is_not_read_in_part(frontend: TimelineFrontEnd, tempo: str) -> None:
    with pytest.raises(PromptError):
        frontend.build_prompt("music", f"flute, {tempo} bpm: C4")
