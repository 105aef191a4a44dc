"""Pronunciations of phrases: weak forms, every word, counts of words."""

from __future__ import annotations

import pytest

from unimoe_runtime.frontend.pronunciation import (
    PHONEMES,
    WEAK_FORMS,
    Phrase,
    Pronouncer,
    is_vowel,
    read_phrases,
    spell,
    with_s,
)

WORDS = {
    "apple": ("ae1", "p", "ah0", "l"),
    "cat": ("k", "ae1", "t"),
    "the": ("dh", "ah1"),
    "for": ("f", "ao1", "r"),
    "what": ("w", "ah1", "t"),
    "bus": ("b", "ah1", "s"),
}


def pronouncer() -> Pronouncer:
    return Pronouncer(dictionary=WORDS, sound_out=lambda word: tuple("ah0" for _ in word))


def test_function_words_are_weak_inside_a_phrase_and_strong_at_its_end() -> None:
    said = pronouncer().phrase_words(["the", "cat"])
    assert said == [("dh", "ah0"), ("k", "ae1", "t")]
    assert pronouncer().phrase_words(["the", "apple"])[0] == ("dh", "iy0")
    assert pronouncer().phrase_words(["for", "cat"])[0] == ("f", "ao0", "r")
    assert pronouncer().phrase_words(["what", "for"])[1] == ("f", "ao1", "r")


@pytest.mark.parametrize(
    ("word", "sounds"),
    [
        ("A", "ey1"),
        ("x", "eh1 k s"),
        ("NHK", "eh1 n ey1 ch k ey1"),
        ("cat's", "k ae1 t s"),
        ("cats", "k ae1 t s"),
        ("bus's", "b ah1 s ih0 z"),
        ("hmm", "ey1 ch eh1 m eh1 m"),
        ("blorb", "ah0 ah0 ah0 ah0 ah0"),
    ],
)
def test_every_word_has_a_reading(word: str, sounds: str) -> None:
    assert pronouncer().pronounce(word) == tuple(sounds.split())


def test_an_utterance_counts_its_words() -> None:
    phrases = [Phrase(words=("the", "cat"), mark=","), Phrase(words=("bus",), mark="?")]
    spoken = read_phrases(phrases, pronouncer())
    assert spoken.phonemes_P == ("pau", "dh", "ah0", "k", "ae1", "t", ",", "b", "ah1", "s", "?")
    assert spoken.word_P == (-1, 0, 0, 1, 1, 1, -1, 2, 2, 2, -1)


def test_tables_hold_known_phonemes_only() -> None:
    assert set(PHONEMES) >= {sound for sounds in WEAK_FORMS.values() for sound in sounds}
    assert set(PHONEMES) >= set(spell("abcdefghijklmnopqrstuvwxyz"))
    assert len(set(PHONEMES)) == len(PHONEMES) == 24 + 45
    assert is_vowel("ae1") and is_vowel("er") and not is_vowel("hh") and not is_vowel("?")
    assert with_s(("s", "iy1")) == ("s", "iy1", "z")


@pytest.mark.parametrize(("ending", "sounds"), [("ve", ("ah0", "v")), ("ll", ("ah0", "l")), ("d", ("ah0", "d"))])
def test_a_contraction_of_a_known_word_keeps_its_sounds(ending: str, sounds: tuple[str, ...]) -> None:
    known = {"shouldn't": ("sh", "n", "t"), "anna": ("ae1", "n", "ah0"), "who'd": ("hh", "uw1", "d")}
    pronouncer = Pronouncer(dictionary=known, sound_out=lambda word: ("k",))
    for word, said in known.items():
        assert pronouncer.pronounce(f"{word}'{ending}") == said + sounds
    assert pronouncer.pronounce(f"shouldn't'{ending}'ve") == known["shouldn't"] + sounds + ("ah0", "v")
    assert pronouncer.pronounce(f"blarg'{ending}") == ("k",)
