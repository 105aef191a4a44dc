"""Unifying signs that look alike, before the text is read."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Mapping

_SAME = {
    "’": "'", "‘": "'", "ʼ": "'", "ʻ": "'", "´": "'", "`": "'", "＇": "'", "‛": "'", "“": '"', "”": '"',
    "‟": '"', "„": '"', "«": '"', "»": '"', "‐": "-", "‑": "-", "﹣": "-", "―": "—", "‒": "–", "﹘": "—",
    "﹪": "%", "⁄": "/", "∕": "÷", "\u00ad": "", "\u200b": "", "\u200c": "", "\u200d": "", "\u2060": "",
    "\ufeff": "", "\ufe0f": "", "\ufe0e": "", "\u0009": " ", "\u2028": "\n", "\u2029": "\n\n", "\u000d": "\n",
    "\u000b": "\n", "\u000c": "\n", "\u0085": "\n",
}  # fmt: skip
_GROUPING = "\u00a0\u2009\u202f"
_AS_THEY_ARE = "ªº™℠№℃℉"


def fold(text: str, letters: Mapping[str, str]) -> str:
    """The text with one common form for each apostrophe, hyphen, space, digit and letter that only looks different.

    Letters lose their accents; `letters` has the replacements of letters that accents do not explain, such as ß.
    """
    text = text.replace("\r\n", "\n")
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    changed: dict[int, str] = {}
    for sign in set(text):
        same = letters.get(sign)
        if same is None:
            same = _same(sign)
        if same is not None:
            changed[ord(sign)] = same
    return text.translate(changed) if changed else text


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
    if sign in _AS_THEY_ARE:
        return None
    if "₀" <= sign <= "₉":
        return str(unicodedata.digit(sign))
    plain = "".join(one for one in unicodedata.normalize("NFKD", sign) if not unicodedata.combining(one))
    if plain.isascii() and plain and (category[0] == "L" or "\uff01" <= sign <= "\uff5e" or category == "So"):
        return plain
    return None
