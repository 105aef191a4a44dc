"""The timeline: phonemes and notes at their times, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.frontend.small_frontend import write_frontend
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import BundleError, PromptError
from unimoe_runtime.frontend import SpeechOptions, open_frontend
from unimoe_runtime.frontend.durations import DurationTable
from unimoe_runtime.frontend.lexicon import Lexicon
from unimoe_runtime.frontend.timeline import TimelineFrontEnd


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


def test_music_takes_a_tempo_and_no_speed(frontend: TimelineFrontEnd) -> None:
    with pytest.raises(PromptError, match="give its tempo"):
        next(frontend.prepare("music", "C4", "", SpeechOptions(speed=2.0)))
