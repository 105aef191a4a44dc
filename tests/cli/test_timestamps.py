"""`unimoe synth --timestamps`: formats by the name of the file."""

from __future__ import annotations

import json
import re
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimoe.cli.timestamps import require_format, write_timestamps
from unimoe_runtime.errors import OutputError
from unimoe_runtime.frontend.prepared import PhonemeTime, WordTime

WORDS = [
    WordTime(word="is", start_s=0.15, end_s=0.3),
    WordTime(word="it", start_s=0.3, end_s=0.5),
    WordTime(word="far", start_s=61.5, end_s=62.0, phonemes=(PhonemeTime(phoneme="f", start_s=61.5, end_s=61.7),)),
]


def test_word_times_are_written_as_the_name_says(tmp_path: Path) -> None:
    for name in ("a.json", "a.srt", "a.vtt"):
        write_timestamps(tmp_path / name, WORDS)
    assert json.loads((tmp_path / "a.json").read_text())[2] == {
        "word": "far", "start_s": 61.5, "end_s": 62.0,
        "phonemes": [{"phoneme": "f", "start_s": 61.5, "end_s": 61.7}],
    }  # fmt: skip
    subtitles = (tmp_path / "a.srt").read_text()
    assert subtitles.startswith("1\n00:00:00,150 --> 00:00:00,500\nis it\n\n2\n00:01:01,500 --> 00:01:02,000\nfar\n")
    assert (tmp_path / "a.vtt").read_text().startswith("WEBVTT\n\n00:00:00.150 --> 00:00:00.500\nis it\n")


def test_another_name_is_refused() -> None:
    with pytest.raises(OutputError, match=r"a\.txt: word times can be written as \.json, \.srt, \.vtt"):
        require_format(Path("a.txt"))


@given(
    st.lists(st.tuples(st.floats(0, 2), st.floats(2e-4, 3)), max_size=30), st.sampled_from([".srt", ".vtt", ".json"])
)
def test_all_words_are_kept_in_cues_of_some_length(gaps: list[tuple[float, float]], suffix: str) -> None:
    words, at_s = [], 0.0
    for number, (gap_s, length_s) in enumerate(gaps):
        start_s, at_s = at_s + gap_s, at_s + gap_s + length_s
        words.append(WordTime(word=f"w{number}", start_s=start_s, end_s=at_s))
    with tempfile.TemporaryDirectory() as folder:
        write_timestamps(Path(folder) / f"words{suffix}", words)
        written = (Path(folder) / f"words{suffix}").read_text()
    assert re.findall(r"w\d+", written) == [word.word for word in words]
    if suffix == ".json":
        assert all(len(number) < 5 for number in re.findall(r"\d\.(\d+)", written))
        return
    spans = re.findall(r"(\d\d:\d\d:\d\d[,.]\d\d\d) --> (\d\d:\d\d:\d\d[,.]\d\d\d)\n", written)
    assert all(start < end for start, end in spans)
    assert all(start < following for (start, _), (following, _) in pairwise(spans))
