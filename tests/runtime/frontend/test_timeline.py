"""The front end: numbers, words, sounds, the timeline, music descriptions, and what each refuses."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.frontend.small_frontend import MUSIC, PHONEMES, write_frontend
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import BundleError, PromptError
from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.frontend.durations import DurationTable, places
from unimoe_runtime.frontend.lexicon import Lexicon
from unimoe_runtime.frontend.timeline import TimelineFrontEnd
from unimoe_runtime.frontend.tunes import TUNES


@pytest.fixture(scope="module")
def frontend(tmp_path_factory: pytest.TempPathFactory) -> TimelineFrontEnd:
    opened = open_frontend(write_frontend(tmp_path_factory.mktemp("frontend")))
    assert isinstance(opened, TimelineFrontEnd)
    return opened


@settings(deadline=None)
@given(st.text(alphabet=string.ascii_letters + "'", min_size=1, max_size=20).filter(lambda word: word.strip("'")))
def test_every_word_can_be_said(frontend: TimelineFrontEnd, word: str) -> None:
    sounds = frontend.lexicon.pronounce(word)
    assert sounds
    assert set(sounds) <= set(PHONEMES)


def test_longest_context_wins(frontend: TimelineFrontEnd) -> None:
    assert frontend.lexicon.pronounce("she") == ("s",)
    assert frontend.lexicon.pronounce("sat") == ("b", "iy", "b")
    assert frontend.lexicon.pronounce("cat's") == ("k", "ae", "t", "s")
    assert frontend.lexicon.pronounce("USB") == ("eh", "f") * 3


def test_the_changes_before_a_vowel(frontend: TimelineFrontEnd) -> None:
    assert frontend.lexicon.phrase(["the", "cat"]) == ["z", "ax", "k", "ae", "t"]
    assert frontend.lexicon.phrase(["the", "hello"]) == ["z", "iy", "eh", "l", "ax"]


def test_durations_follow_place_and_voice(frontend: TimelineFrontEnd) -> None:
    phonemes = ["pau", "k", "ae", "t", "ae", "t", "pau"]
    assert places(phonemes) == ["first", "inner", "inner", "inner", "last", "last", "last"]
    assert frontend.durations.durations("ann", phonemes) == [0.3, 0.1, 0.1, 0.1, 0.2, 0.1, 0.1]
    assert frontend.durations.durations("bob", phonemes) == [0.2] * 7


@given(st.lists(st.sampled_from(["cat", "the", "hello", "zebra,", "7", "a."]), min_size=1, max_size=8))
def test_phonemes_stand_where_they_sound(frontend: TimelineFrontEnd, words: list[str]) -> None:
    timeline = frontend.timeline("speech", " ".join(words), "ann")
    ids, positions = frontend.row(timeline)
    assert len(ids) == len(positions) == len(timeline.segments) + 2
    assert ids[0] == frontend.tokens["voice:ann"] and ids[-1] == frontend.tokens["separator"]
    assert positions[0] == 0 and positions[-1] == frontend.origin - 1
    middles = np.array(positions[1:-1])
    assert (np.diff(middles) > 0).all()
    assert frontend.origin - 0.5 < middles[0] and middles[-1] < frontend.origin - 0.5 + timeline.duration_s * 50


def test_prompt_is_a_guided_pair(frontend: TimelineFrontEnd) -> None:
    prepared = frontend.build_prompt("speech", "the cat", "bob")
    prompt = prepared.prompt
    assert prompt.paired and prompt.num_rows == 2
    assert prompt.mask_BT.sum(axis=1).tolist() == [2, 9]
    assert prompt.text_ids_BT[0, -2:].tolist() == [frontend.tokens["voice:bob"], frontend.tokens["separator"]]
    assert prompt.first_position_B.tolist() == [2, 2]
    assert prepared.expected_frames == 70
    limited = prepared.limit(SamplingConfig(), max_delay=3)
    assert limited.min_steps < 70 < limited.max_steps - 4


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
        ("greensleeves in e minor, 100 bpm", ""),
    ],
)
def test_tunes_and_two_voices_become_notes(orchestra: TimelineFrontEnd, text: str, caption: str) -> None:
    made = orchestra.build_prompt("music", text).caption
    assert made == caption or (not caption and made.startswith("piano, 100 bpm: E4 G4*2 A4 B4*1.5 C5*0.5"))


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


@pytest.mark.parametrize(
    ("task", "text", "voice", "message"),
    [
        ("speech", "  ", "", "empty"),
        ("speech", "?! 你好", "", "nothing to say"),
        ("speech", "cat " * 20, "", "the limit is 60: split"),
        ("speech", "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "bob", "the limit is 6.4 s"),
        ("speech", "cat", "carol", "it can be ann, bob"),
        ("dance", "cat", "", "it can be speech or music"),
        ("music", "kazoo: C4", "", "'kazoo' is neither a note.*piano, flute"),
        ("music", "C4", "kazoo", "no instrument 'kazoo'; it can be piano, flute"),
        ("music", "C4 H4", "", "'H4' is neither"),
        ("music", "C9", "", "C9 is out of range: notes can be G3 to C6"),
        ("music", "500 bpm: C4", "", "80 to 160 bpm"),
        ("music", "C4 " * 9, "", "up to 8 at a time"),
        ("music", "flute, 100 bpm:", "", "no notes"),
        ("music", "C4+E4", "", "strikes 2 notes at once; this model plays one at a time"),
        ("music", "C4*2", "", "C4\\*2 is out of range: this model plays notes of one beat"),
        ("music", "blues arpeggio", "", "no blues arpeggio; it can be major"),
        ("music", "blues scale in thirds", "", "no blues scale in thirds"),
        ("music", "ode to joy in E minor", "", "ode to joy is in major, not in minor"),
        ("music", "ode to boy", "", "'ode' is neither"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(
    frontend: TimelineFrontEnd, task: str, text: str, voice: str, message: str
) -> None:
    with pytest.raises(PromptError, match=message) as refusal:
        frontend.build_prompt(task, text, voice)
    assert "\n" not in str(refusal.value)


@given(st.text(max_size=80))
def test_any_text_is_spoken_or_refused(frontend: TimelineFrontEnd, text: str) -> None:
    for task in frontend.tasks:
        try:
            assert frontend.build_prompt(task, text).expected_frames
        except PromptError as refusal:
            assert "\n" not in str(refusal)


def test_damaged_front_ends_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"frontend\.json: cannot be read"):
        open_frontend(tmp_path)
    with pytest.raises(BundleError, match="kind 'crystal ball'"):
        open_frontend(write_frontend(tmp_path / "kind", kind="crystal ball"))
    with pytest.raises(BundleError, match="format version 7"):
        open_frontend(write_frontend(tmp_path / "version", format_version=7))
    with pytest.raises(BundleError, match="incomplete or damaged"):
        open_frontend(write_frontend(tmp_path / "field", music={}))
    folder = write_frontend(tmp_path / "table")
    (folder / "durations.tsv").write_text("ann\tae\tinner\tlong\n")
    with pytest.raises(BundleError, match=r"durations\.tsv:1: 'long'"):
        open_frontend(folder)
    (folder / "letter_to_sound.tsv").write_text("a\tb\n")
    with pytest.raises(BundleError, match=r"letter_to_sound\.tsv:1: has 2 columns"):
        open_frontend(folder)


def test_tables_are_read_as_written(tmp_path: Path) -> None:
    folder = write_frontend(tmp_path)
    assert Lexicon.read(folder / "lexicon.tsv", folder / "letter_to_sound.tsv").words["cat"] == ("k", "ae", "t")
    assert DurationTable.read(folder / "durations.tsv").seconds["ann", "pau", "first"] == 0.3
