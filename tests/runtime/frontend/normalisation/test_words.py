"""Words in capitals, and abbreviations that are spelled."""

from __future__ import annotations

import pytest

from unimoe_runtime.frontend.normalisation import open_language
from unimoe_runtime.frontend.normalisation.words import Spelling
from unimoe_runtime.frontend.reading import read_phrases

SPELLING = Spelling(vocabularies=open_language("en").vocabularies)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("FORK", "fork"),
        ("NASA", "nasa"),
        ("FBI", "F B I"),
        ("CEOs", "C E O's"),
        ("HTML", "H T M L"),
        ("iPhone", "I phone"),
        ("McDonald", "mcdonald"),
        ("GitHub", "git hub"),
        ("I'm", "i'm"),
        ("ISN'T", "isn't"),
        ("hello", "hello"),
    ],
)
def test_words(written: str, said: str) -> None:
    assert " ".join(SPELLING.word(written, lambda word: False)) == said


def test_a_shouted_word_is_a_word() -> None:
    assert SPELLING.word("IT", lambda word: False) == ["I", "T"]
    assert SPELLING.word("IT", lambda word: False, shouted=True) == ["it"]


def test_what_could_be_a_word() -> None:
    assert SPELLING.can_be_said("tiger") and SPELLING.can_be_said("blarg")
    assert not SPELLING.can_be_said("xkcd") and not SPELLING.can_be_said("hdmi") and not SPELLING.can_be_said("abc")


WORDS = ("throwback", "thursday", "morning", "coffee", "black", "lives", "matter", "stack", "overflow")


@pytest.mark.parametrize("first", WORDS)
@pytest.mark.parametrize("second", WORDS)
def test_a_name_without_spaces_is_read_by_its_words(first: str, second: str) -> None:
    wanted = [first, second]
    assert SPELLING.name(first + second, WORDS.__contains__) == wanted
    assert SPELLING.name(first.title() + second.title(), WORDS.__contains__) == wanted
    assert SPELLING.name(first, WORDS.__contains__) == [first]


@pytest.mark.parametrize("label", ["seat", "Apt", "room", "Gate", "table", "exit", "Unit", "row"])
@pytest.mark.parametrize("letter", ["C", "F"])
def test_a_number_with_a_letter_after_a_label_is_no_temperature(label: str, letter: str) -> None:
    assert read_phrases(f"{label} 12{letter}")[0][1:] == ["twelve", letter]
    assert read_phrases(f"at 12{letter}")[0][2] == "degrees"
