"""Converts phonemes to the signs that Kokoro-82M reads. British voices drop the r before consonants.

Each phoneme has at least one sign, so that the teacher's sign durations give the phoneme's duration. Where British
English drops an r, its phoneme becomes the length mark of the vowel: "car" is `k ɑ ː`, and `ː` belongs to the r.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from unimoe_runtime.frontend.pronunciation import PAUSE, PhonemeSequence, is_vowel

Sign = tuple[str, int]
"""A sign and the number of the phoneme to which it belongs."""

_STRESS: Final = {"1": "ˈ", "2": "ˌ", "0": ""}
_AMERICAN: Final = {
    "aa": "ɑ", "ae": "æ", "ah": "ʌ", "ao": "ɔ", "aw": "W", "ay": "I", "b": "b", "ch": "ʧ", "d": "d", "dh": "ð",
    "eh": "ɛ", "er": "ɜɹ", "ey": "A", "f": "f", "g": "ɡ", "hh": "h", "ih": "ɪ", "iy": "i", "jh": "ʤ", "k": "k",
    "l": "l", "m": "m", "n": "n", "ng": "ŋ", "ow": "O", "oy": "Y", "p": "p", "r": "ɹ", "s": "s", "sh": "ʃ", "t": "t",
    "th": "θ", "uh": "ʊ", "uw": "u", "v": "v", "w": "w", "y": "j", "z": "z", "zh": "ʒ",
}  # fmt: skip
_BRITISH: Final = {**_AMERICAN, "ae": "a", "ow": "Q", "er": "ɜː", "uw": "uː"}
_LENGTH: Final = {"aa": "ː", "ao": "ː", "eh": "ː", "ih": "ə", "uh": "ə", "iy": "ə", "ay": "ə", "aw": "ə"}
"""The sign that replaces a dropped r after a vowel."""
_BROAD_A: Final = frozenset(
    "ask asked after afternoon answer bath path pass passed past class classes glass glasses grass fast faster last "
    "master castle half can't dance dancing chance france branch plant plants laugh laughed draft example demand "
    "command basket task mask staff craft aunt rather calf".split()
)
_LONG_O: Final = re.compile("ou|oa|aw|au|al")


def signs_of(spoken: PhonemeSequence, words: Sequence[str], *, british: bool) -> list[Sign]:
    """Signs of an utterance, including the spaces between words and after marks.

    `words`: the words that `spoken.word_P` numbers. A space belongs to the phoneme before it. The opening PAUSE has no
    sign, because the graph adds its own.
    """
    signs: list[Sign] = []
    phonemes_P, word_P = spoken.phonemes_P, spoken.word_P
    for index, (phoneme, word) in enumerate(zip(phonemes_P, word_P, strict=True)):
        if phoneme == PAUSE:
            continue
        if word >= 0 and word_P[index - 1] >= 0 and word_P[index - 1] != word:
            signs.append((" ", index - 1))
        if word < 0:
            signs += [(phoneme, index), (" ", index)]
            continue
        following = phonemes_P[index + 1] if index + 1 < len(phonemes_P) else PAUSE
        spelled = _american(phoneme)
        if british:
            spelled = _british(phoneme, phonemes_P[index - 1], following, words[word].lower())
        signs += [(sign, index) for sign in spelled]
    return signs[:-1]


def _american(phoneme: str) -> str:
    if not is_vowel(phoneme):
        return _AMERICAN[phoneme]
    if phoneme in ("ah0", "er0"):
        return {"ah0": "ə", "er0": "əɹ"}[phoneme]
    return _STRESS[phoneme[-1]] + _AMERICAN[phoneme[:-1]]


def _british(phoneme: str, previous: str, following: str, word: str) -> str:
    before_vowel = is_vowel(following)
    if phoneme == "r" and not before_vowel and is_vowel(previous):
        return _LENGTH.get(previous[:-1], "ː")
    if not is_vowel(phoneme):
        return _BRITISH[phoneme]
    name, stress = phoneme[:-1], _STRESS[phoneme[-1]]
    if phoneme == "ah0":
        return "ə"
    if name == "er":
        return ("ə" if phoneme == "er0" else f"{stress}ɜː") + ("ɹ" if before_vowel else "")
    if following == "r":
        return stress + {"aa": "ɑ", "ao": "ɔ", "iy": "ɪ"}.get(name, _BRITISH[name])
    if name == "aa":
        return stress + ("ɒ" if "o" in word else "ɑː")
    if name == "ao":
        return stress + ("ɒ" if "o" in word and not _LONG_O.search(word) else "ɔː")
    if name == "ae" and word in _BROAD_A:
        return f"{stress}ɑː"
    if name == "iy":
        return "i" if phoneme == "iy0" else f"{stress}iː"
    return stress + _BRITISH[name]
