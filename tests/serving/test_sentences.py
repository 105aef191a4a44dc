"""Sentences come complete and as soon as they are certain, for any division of the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimoe_serving.sentences import SentenceCutter

TEXT = "Dr. Smith came at 3.15 p.m. yesterday. He said: “Well!” Then he left… I think.\n\nWas it J. S. Bach? Yes"
SENTENCES = [
    "Dr. Smith came at 3.15 p.m. yesterday.", "He said: “Well!”", "Then he left…", "I think.", "Was it J. S. Bach?",
    "Yes",
]  # fmt: skip


def cut(pieces: list[str]) -> list[str]:
    cutter = SentenceCutter(["Dr"])
    return [*(sentence for piece in pieces for sentence in cutter.add(piece)), *cutter.flush()]


def test_sentences() -> None:
    assert cut([TEXT]) == SENTENCES


@given(cuts=st.lists(st.integers(0, len(TEXT)), max_size=20).map(sorted))
def test_however_the_text_is_cut(cuts: list[int]) -> None:
    pieces = [TEXT[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(TEXT)], strict=True)]
    assert cut(pieces) == SENTENCES


@given(pieces=st.lists(st.text(max_size=60), max_size=12))
def test_nothing_is_lost(pieces: list[str]) -> None:
    said = "".join("".join(sentence.split()) for sentence in cut(pieces))
    assert said == "".join("".join(pieces).split())


def test_a_sentence_comes_with_the_first_letter_of_the_next() -> None:
    cutter = SentenceCutter()
    assert cutter.add("Hello.") == []
    assert cutter.add(" ") == []
    assert cutter.add("H") == ["Hello."]
    assert cutter.num_waiting == 1
    cutter.clear()
    assert cutter.flush() == []


@pytest.mark.parametrize("word", ["word, ", "word; "])
def test_a_sentence_without_an_end_is_cut_between_clauses(word: str) -> None:
    cutter = SentenceCutter()
    spoken = [sentence for _ in range(100) for sentence in cutter.add(word)]
    assert len(spoken) >= 2 and all(len(sentence) < 300 for sentence in spoken)


@pytest.mark.parametrize("text", ["a" * 2000, "." * 2000, "a." * 1000, ".'" * 1000, "A. " * 700, ", " * 1000])
def test_a_long_text_letter_by_letter(text: str) -> None:
    """It takes a second. Where the time for one letter grows with the square of what waits, it takes many minutes."""
    assert "".join("".join(cut(list(text))).split()) == "".join(text.split())
