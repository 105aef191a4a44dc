"""Spellings of the same speech are the same words."""

from __future__ import annotations

import pytest

from unimoe.evaluation.spoken_form import spoken_tokens


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("four three seven zero", "4370"),
        ("The twenty third of May, nineteen oh five", "The 23rd of May 1905"),
        ("five dollars and thirty cents", "$5.30"),
        ("one thousand forty two people", "1,042 people"),
        ("It's seven o'clock", "It is 7:00."),
        ("twenty twenty six", "2026"),
        ("three point five percent", "3.5%"),
        ("two thousand two", "2002"),
        ("seven hundred and five", "705"),
        ("Eight P M", "8 p.m."),
        ("They won't, I'm sure", "they will not; I am sure"),
        ("Doctor Smith", "Dr. Smith"),
        ("the color of the harbor", "The colour of the harbour"),
        ("one million two hundred thousand", "1,200,000"),
    ],
)
def test_spellings_of_the_same_speech_are_the_same(said: str, written: str) -> None:
    assert spoken_tokens(said) == spoken_tokens(written)


@pytest.mark.parametrize(("one", "other"), [("forty two", "43"), ("can", "can't"), ("first", "one"), ("it", "it's")])
def test_other_words_stay_other_words(one: str, other: str) -> None:
    assert spoken_tokens(one) != spoken_tokens(other)
