"""Signs that look alike are made one, before anything is read."""

from __future__ import annotations

import functools
import re
import unicodedata

from unimoe_runtime.frontend.normalisation.vocabulary import Vocabulary

_SAME = {
    "’": "'", "‘": "'", "ʼ": "'", "ʻ": "'", "´": "'", "`": "'", "＇": "'", "‛": "'", "“": '"', "”": '"',
    "‟": '"', "„": '"', "«": '"', "»": '"', "‐": "-", "‑": "-", "﹣": "-", "―": "—", "‒": "–", "﹘": "—",
    "﹪": "%", "⁄": "/", "∕": "/", "\u00ad": "", "\u200b": "", "\u200c": "", "\u200d": "", "\u2060": "",
    "\ufeff": "", "\ufe0f": "", "\ufe0e": "", "\u0009": " ", "\u2028": "\n", "\u2029": "\n\n", "\u000d": "\n",
    "\u000b": "\n", "\u000c": "\n", "\u0085": "\n",
}  # fmt: skip
_GROUPING = "\u00a0\u2009\u202f"


def fold(text: str) -> str:
    """The text with one sign for each apostrophe, hyphen, space, digit and letter that only looks different."""
    text = text.replace("\r\n", "\n")
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return text.translate({ord(sign): same for sign in set(text) if (same := _same(sign)) is not None})


@functools.lru_cache(maxsize=4096)
def _same(sign: str) -> str | None:
    known = _SAME.get(sign)
    if known is not None or sign.isascii():
        return known
    if sign.isdecimal():
        return str(unicodedata.decimal(sign))
    category = unicodedata.category(sign)
    if category == "Zs":
        return None if sign in _GROUPING else " "
    if category == "Cf":
        return ""
    plain = unicodedata.normalize("NFKC", sign)
    wide = plain != sign and plain.isascii()
    if wide and ((category[0] == "L" and sign not in "ªº") or "\uff01" <= sign <= "\uff5e" or category == "So"):
        return None if sign in "™℠" else plain
    return None


_ASCII_WORD = re.compile(r"[a-zA-Z']+")


def fold_word(word: str, folded: Vocabulary) -> str | None:
    """A word in ASCII letters: accents dropped, ß and the like written out. None where a letter has no such form."""
    if word.isascii():
        return word
    spelled = "".join(folded.words.get(letter, letter) for letter in word)
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", spelled) if not unicodedata.combining(sign))
    return plain if _ASCII_WORD.fullmatch(plain) else None
