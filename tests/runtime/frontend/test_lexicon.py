"""A lexicon of listed words, and rules for all other words."""

from __future__ import annotations

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.frontend.small_frontend import PHONEMES
from unimoe_runtime.frontend.lexicon import Lexicon
from unimoe_runtime.frontend.timeline import TimelineFrontEnd


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
    assert isinstance(frontend.lexicon, Lexicon)
    assert frontend.lexicon.phrase(["the", "cat"]) == ["z", "ax", "k", "ae", "t"]
    assert frontend.lexicon.phrase(["the", "hello"]) == ["z", "iy", "eh", "l", "ax"]
