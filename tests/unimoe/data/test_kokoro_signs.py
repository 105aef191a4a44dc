"""Kokoro's signs of phonemes, for two accents."""

from __future__ import annotations

import pytest

from unimoe.data.kokoro_signs import signs_of
from unimoe_runtime.frontend.pronunciation import Phrase, Pronouncer, read_phrases

WORDS = {
    word: tuple(sounds.split())
    for word, sounds in {
        "park": "p aa1 r k", "the": "dh ah1", "car": "k aa1 r", "hot": "hh aa1 t", "nurse": "n er1 s",
        "water": "w ao1 t er0", "very": "v eh1 r iy0", "near": "n ih1 r", "last": "l ae1 s t", "go": "g ow1",
        "banana": "b ah0 n ae1 n ah0", "outside": "aw1 t s ay2 d",
    }.items()
}  # fmt: skip


def written(text: str, *, british: bool) -> str:
    words = tuple(text.split())
    pronouncer = Pronouncer(dictionary=WORDS, sound_out=lambda word: ())
    spoken = read_phrases([Phrase(words=words, mark="?")], pronouncer)
    return "".join(sign for sign, _ in signs_of(spoken, words, british=british))


@pytest.mark.parametrize(
    ("text", "american", "british"),
    [
        ("park the car", "pˈɑɹk ðə kˈɑɹ?", "pˈɑːk ðə kˈɑː?"),
        ("hot water", "hˈɑt wˈɔtəɹ?", "hˈɒt wˈɔːtə?"),
        ("very near nurse", "vˈɛɹi nˈɪɹ nˈɜɹs?", "vˈɛɹi nˈɪə nˈɜːs?"),
        ("go last", "ɡˈO lˈæst?", "ɡˈQ lˈɑːst?"),
        ("banana outside", "bənˈænə ˈWtsˌId?", "bənˈanə ˈWtsˌId?"),
    ],
)
def test_signs_of_two_accents(text: str, american: str, british: str) -> None:
    assert written(text, british=False) == american
    assert written(text, british=True) == british


def test_every_phoneme_has_a_sign_of_its_own() -> None:
    words = ("park", "near")
    phrases = [Phrase(words=words, mark=","), Phrase(words=("go",), mark=".")]
    spoken = read_phrases(phrases, Pronouncer(dictionary=WORDS, sound_out=lambda word: ()))
    for british in (False, True):
        owners = [index for _, index in signs_of(spoken, [*words, "go"], british=british)]
        assert sorted(set(owners)) == list(range(1, len(spoken.phonemes_P)))
        assert owners == sorted(owners)
