"""Phonemes that a user writes, in ARPAbet or IPA: in a text, or in a lexicon file."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from unimoe_runtime.errors import PromptError
from unimoe_runtime.files.text import read_lines
from unimoe_runtime.records import shown

_IPA: Final[Mapping[str, str]] = {
    "tʃ": "ch", "t͡ʃ": "ch", "ʧ": "ch", "dʒ": "jh", "d͡ʒ": "jh", "ʤ": "jh", "aɪ": "ay", "aʊ": "aw", "eɪ": "ey",
    "oʊ": "ow", "əʊ": "ow", "ɔɪ": "oy", "ɔɪ̯": "oy", "ɜɹ": "er", "ɜr": "er", "ɜː": "er", "ɝ": "er", "ɚ": "er0",
    "əɹ": "er0", "ər": "er0", "ɪə": "ih ah0", "eə": "eh", "ʊə": "uh ah0", "ɑ": "aa", "a": "aa", "ɒ": "aa",
    "æ": "ae", "ʌ": "ah", "ə": "ah0", "ɐ": "ah0", "ɔ": "ao", "ɛ": "eh", "e": "eh", "ɜ": "er", "ɪ": "ih", "i": "iy",
    "o": "ow", "ʊ": "uh", "u": "uw", "b": "b", "d": "d", "ð": "dh", "f": "f", "g": "g", "ɡ": "g", "h": "hh",
    "j": "y", "k": "k", "l": "l", "ɫ": "l", "m": "m", "n": "n", "ŋ": "ng", "p": "p", "ɹ": "r", "r": "r", "ɾ": "t",
    "s": "s", "ʃ": "sh", "t": "t", "ʔ": "t", "θ": "th", "v": "v", "w": "w", "z": "z", "ʒ": "zh", "x": "k",
    "y": "uw", "ø": "er", "œ": "er", "ç": "hh", "ɲ": "n", "β": "v", "ʁ": "r", "ʀ": "r", "ɨ": "ih", "l̩": "ah0 l",
    "n̩": "ah0 n", "m̩": "ah0 m", "ʍ": "w", "ᵻ": "ih",
}  # fmt: skip
_STRESS: Final = {"ˈ": "1", "'": "1", "ˌ": "2"}
_IPA_SIGN: Final = re.compile("|".join(sorted(map(re.escape, _IPA), key=len, reverse=True)) + r"|[ˈˌ']")
_PASSED_OVER: Final = re.compile(r"[\s.ː ˑ‿|͡/\[\]\u032f\u0306]")
_ARPABET: Final = re.compile(r"[A-Za-z]{1,3}[0-2]?")
_VOWELS: Final = frozenset("aa ae ah ao aw ax axr ay eh er ey ih iy ow oy uh uw".split())
_ALPHABETS: Final = ("", "ipa", "arpabet", "x-arpabet", "cmu", "cmudict", "x-cmu", "x-ipa")


def parse_phonemes(written: str, inventory: Collection[str], alphabet: str = "") -> tuple[str, ...]:
    """The voice's phonemes for `K AE1 T` or `kæt`. `inventory`: the phonemes that the voice has.

    Without an `alphabet` the text's form shows it. Stress that the voice does not distinguish is dropped. Raises
    PromptError, one line, which names the invalid sign.
    """
    if alphabet not in _ALPHABETS:
        raise PromptError(f"alphabet is {alphabet!r}; it can be ipa or arpabet")
    parts = written.split()
    if not parts:
        raise PromptError("there are no phonemes: write them as K AE1 T or kæt")
    spelled = all(_ARPABET.fullmatch(part) for part in parts)
    is_arpabet = alphabet not in ("", "ipa", "x-ipa") or (
        not alphabet and spelled and (len(parts) > 1 or written.isupper())
    )
    sounds = _read_arpabet(parts) if is_arpabet else _read_ipa(written)
    found: list[str] = []
    for sound, sign in sounds:
        fitting = next((name for name in _names(sound) if name in inventory), None)
        if fitting is None:
            kind = "ARPAbet" if is_arpabet else "IPA"
            known = " ".join(sorted({name.rstrip("012") for name in inventory} - {"pau"}))
            raise PromptError(
                f"phonemes {written!r}: {sign!r} is not a phoneme of this voice in {kind}; it has {known}"
            )
        found.append(fitting)
    return tuple(found)


def _read_arpabet(parts: list[str]) -> list[tuple[str, str]]:
    return [(part.lower(), part) for part in parts]


def _read_ipa(written: str) -> list[tuple[str, str]]:
    """Pairs of an ARPAbet phoneme and its IPA sign. A stress mark applies to the next vowel."""
    found: list[tuple[str, str]] = []
    stress, at = "", 0
    while at < len(written):
        match = _IPA_SIGN.match(written, at)
        if match is None:
            if not _PASSED_OVER.match(written[at]):
                found.append(("", written[at]))
            at += 1
            continue
        at = match.end()
        if match[0] in _STRESS:
            stress = _STRESS[match[0]]
            continue
        for sound in _IPA[match[0]].split():
            if sound.rstrip("012") in _VOWELS:
                sound, stress = (sound.rstrip("012") + stress if stress else sound), ""
            found.append((sound, match[0]))
    return found


def _names(sound: str) -> list[str]:
    """The phoneme's possible names in a voice, in order of preference."""
    base = sound.rstrip("012")
    if base not in _VOWELS:
        return [base]
    names = [sound, base, f"{base}1", f"{base}0"] if sound == base else [sound, base]
    if sound in ("ah0", "ax", "ax0"):
        names = ["ax", "ah0", "ah"]
    if base in ("er", "axr"):
        names += ["er", "er0", "er1"]
    return names


def read_lexicon(path: Path) -> dict[str, str]:
    """Pronunciations of words in a file: one `word <TAB or two spaces> phonemes` in each line; `#` starts a comment.

    Raises PromptError with file and line where a row has no phonemes. The voice checks the phonemes.
    """
    words: dict[str, str] = {}
    for number, line in enumerate(read_lines(path, PromptError), start=1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        parts = re.split(r"\t+|\s{2,}|\s*=\s*|\s", line, maxsplit=1)
        if len(parts) != 2 or not parts[1].strip():
            raise PromptError(
                f"{path}:{number}: {shown(line)} is not a word with its phonemes: write a line like "
                "Kraków  K R AA1 K UH2 F"
            )
        words[parts[0]] = parts[1].strip()
    return words
