"""One pass over a text: letters and articles, the caller's known words, dropped characters."""

from __future__ import annotations

import pytest

from unimoe_runtime.frontend.normalisation import Dropped, Normaliser, Unit, open_language

ENGLISH = open_language("en")


def words(text: str, **settings: object) -> list[str]:
    normaliser = Normaliser(language=ENGLISH, **settings)  # type: ignore[arg-type]
    return [word for item in normaliser.read(text) if isinstance(item, Unit) for word in item.words]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A cat", ["a", "cat"]), ("Plan A", ["plan", "A"]), ("an A", ["an", "A"]), ("A is", ["A", "is"]),
        ("I am", ["i", "am"]), ("a + b", ["A", "plus", "B"]), ("x", ["X"]),
    ],
)  # fmt: skip
def test_single_letters(text: str, said: list[str]) -> None:
    assert words(text) == said


def test_a_value_is_one_unit_and_joined_values_are_one() -> None:
    units = [item.words for item in Normaliser(language=ENGLISH).read("from 5pm-7 pm") if isinstance(item, Unit)]
    assert units == [("from",), ("five", "P", "M", "to", "seven", "P", "M")]


def test_own_words_and_abbreviations_come_first() -> None:
    assert words("SQL and NASA", own={"sql"}) == ["sql", "and", "nasa"]
    assert words("Foo. and Foo's", abbreviations={"Foo": "bar"}) == ["bar", "and", "bar's"]


def test_capitals_that_the_lexicon_knows_are_words() -> None:
    assert words("a PHQ b", known=lambda word: word == "phq") == ["a", "phq", "B"]
    assert words("a PHQ b") == ["a", "P", "H", "Q", "B"]


def test_what_is_dropped_is_gathered() -> None:
    dropped = Dropped()
    list(Normaliser(language=ENGLISH).read("你好 a 😀 b 你好", dropped))
    assert dropped.warning == "left out, without a reading: 你好 😀"


def test_values_by_one_reader() -> None:
    normaliser = Normaliser(language=ENGLISH)
    assert normaliser.read_value("3", "ordinal") == ("third",)
    assert normaliser.read_value("three", "ordinal") == ()
