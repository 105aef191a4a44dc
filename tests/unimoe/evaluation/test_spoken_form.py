"""Spellings of the same speech are the same words: whole kinds, with the front end's reading as the other spelling."""

from __future__ import annotations

import random

import pytest

from unimoe.evaluation.spoken_form import spelled_like, spoken_tokens
from unimoe.evaluation.word_errors import count_errors
from unimoe_runtime.frontend.normalisation import open_language

NUMBERS = open_language("en").numbers
DRAWN = sorted({*range(131), *random.Random(1).sample(range(10_000_000), 200), 1_000, 20_000, 1_000_000, 5_000_000})


def words(number: int) -> str:
    return " ".join(NUMBERS.cardinal(number))


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("four three seven zero", "4370"),
        ("four seven one, nine oh two", "471-902"),
        ("Seven nine.", "7-9"),
        ("Four zero one three.", "4-013"),
        ("nine to five", "9-5"),
        ("twenty to thirty people", "20-30 people"),
        ("five to ten dollars", "$5-10"),
        ("The twenty third of May, nineteen oh five", "The 23rd of May 1905"),
        ("January fifth", "January 5"),
        ("five dollars and thirty cents", "$5.30"),
        ("one dollar fifty", "$1.50"),
        ("fifty cents", "$0.50"),
        ("three pounds fifty pence", "£3.50"),
        ("one point five million dollars", "$1.5 million"),
        ("one thousand forty two people", "1,042 people"),
        ("It's seven o'clock", "It is 7:00."),
        ("seven A M", "7:00 a.m."),
        ("twenty twenty six", "2026"),
        ("three point five percent", "3.5 per cent"),
        ("two and a half miles", "2.5 miles"),
        ("two thirds of it", "2/3 of it"),
        ("two thousand two", "2002"),
        ("seven hundred and five", "705"),
        ("a hundred", "100"),
        ("two billion", "2 billion"),
        ("Eight P M", "8 p.m."),
        ("the nineteen eighties", "the 1980s"),
        ("five kilograms", "5 kg"),
        ("twenty degrees Celsius", "20°C"),
        ("They won't, I'm sure", "they will not; I am sure"),
        ("Let's go, y'all", "Let us go, you all."),
        ("Doctor Smith", "Dr. Smith"),
        ("Henry the eighth", "Henry VIII"),
        ("the color of the harbor", "The colour of the harbour"),
        ("They traveled to the theater and apologized", "They travelled to the theatre and apologised."),
        ("The gray tire was canceled", "The grey tyre was cancelled"),
        ("one million two hundred thousand", "1,200,000"),
        ("T V", "TV"),
        ("A, B, C", "A-B-C"),
        ("an e mail every day", "an email everyday"),
        ("good bye", "Goodbye!"),
    ],
)
def test_spellings_of_the_same_speech_are_the_same(said: str, written: str) -> None:
    assert not count_errors(said, written).errors and not count_errors(written, said).errors


@pytest.mark.parametrize("number", DRAWN)
def test_numbers_are_the_same_in_figures_and_in_words(number: int) -> None:
    said = words(number)
    assert spoken_tokens(f"about {said} people") == spoken_tokens(f"about {number:,} people")
    assert spoken_tokens(f"the {' '.join(NUMBERS.ordinal(number))} one") == spoken_tokens(
        f"the {number:,}{_ending(number)} one"
    )
    assert spoken_tokens(f"it costs {said} {'dollar' if number == 1 else 'dollars'}") == spoken_tokens(
        f"it costs ${number:,}"
    )
    assert spoken_tokens(f"{said} percent") == spoken_tokens(f"{number:,}%")


def test_a_clock_is_the_same_in_figures_and_in_words() -> None:
    for hour in range(1, 13):
        for minute in range(1, 60):
            said = f"at {words(hour)} {'oh ' if minute < 10 else ''}{words(minute)} A M"
            assert spoken_tokens(said) == spoken_tokens(f"at {hour}:{minute:02d} a.m.")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("forty two", "43"), ("fifteen", "50"), ("can", "can't"), ("first", "one"), ("it", "it's"), ("it is", "it was"),
        ("one dollar fifty", "$1.15"), ("five dollars", "5 pounds"), ("ten cents", "ten"), ("record", "records"),
        ("two and a half", "two"), ("a hundred", "two hundred"), ("towards", "to wards of"),
    ],
)  # fmt: skip
def test_other_words_stay_other_words(one: str, other: str) -> None:
    assert count_errors(one, other).errors


def test_spaces_follow_the_other_text() -> None:
    assert spelled_like(["the", "tv", "a", "b", "c"], ["the", "t", "v", "abc"]) == ["the", "t", "v", "abc"]
    assert spelled_like(["a", "part"], ["a", "cart"]) == ["a", "part"]
    assert spelled_like([], ["a"]) == []


def test_a_point_counts_only_where_the_text_says_it() -> None:
    assert not count_errors("seven nine", "7.9").errors and not count_errors("at three fifteen", "at 3.15").errors
    assert count_errors("seven point nine", "79").errors == 1
    assert not count_errors("seven point nine", "7.9").errors


def _ending(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
