"""Words in capitals, and abbreviations that are spelled."""

from __future__ import annotations

import pytest

from unimoe_runtime.frontend.normalisation import open_language
from unimoe_runtime.frontend.normalisation.words import Spelling

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
