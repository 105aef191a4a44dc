"""From written text to the words that are spoken, in phrases between which the voice pauses."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from re import Match

from unimoe_runtime.frontend import numbers

_LOOKALIKES = str.maketrans(
    {
        "’": "'",
        "‘": "'",
        "`": "'",
        "“": '"',
        "”": '"',
        "–": " - ",
        "—": " - ",
        "…": ".",
        "°": " degrees ",
        "×": " times ",
    }
)
_SYMBOLS = {"%": "percent", "&": "and", "+": "plus", "@": "at", "=": "equals", "$": "dollars", "#": "number"}
_CURRENCY = {
    "$": ("dollar", "dollars", "cents"),
    "£": ("pound", "pounds", "pence"),
    "€": ("euro", "euros", "cents"),
}
_FRACTION = re.compile("[¼-¾⅐-⅞]")

_TOKEN = re.compile(
    r"""
    (?P<clock>(?<!\d)(?:[01]?\d|2[0-3]):[0-5]\d(?![\d:]))
  | (?P<coin>[$£€])0?\.(?P<coins>\d\d)(?!\d)
  | (?P<currency>[$£€])(?P<amount>\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.(?P<cents>\d\d)(?!\d))?
  | (?<![\d/.,])(?:(?P<whole>\d{1,3})\ )?(?P<part>[1-9])/(?P<parts>[2-9]|10)(?![\d/]|[.,]\d)
  | (?P<ordinal>\d{1,6})(?:st|nd|rd|th)(?![a-z])
  | (?P<minus>(?<![\w)])-)?(?:(?P<integer>\d{1,3}(?:,\d{3})+(?!\d)|\d+)|(?<![\w.])(?=\.\d))(?:\.(?P<decimals>\d+))?
  | (?P<word>[a-z]+(?:'[a-z]+)*)
  | (?P<symbol>[%&+@=$\#])
  | (?P<pause>[,;:.!?()"\[\]]+|(?<=\s)-+(?=\s))
    """,
    re.VERBOSE | re.IGNORECASE,
)


def phrases(text: str, abbreviations: Mapping[str, str]) -> list[list[str]]:
    """Split a text into phrases of words.

    Numbers, times, amounts of money and symbols are written out; accents are dropped. Words keep their case,
    by which an acronym is told from a word. What has no reading is passed over, so the result may be empty.
    """
    found: list[list[str]] = [[]]
    for match in _TOKEN.finditer(_ascii(_expand(text, abbreviations))):
        if match["pause"]:
            found.append([])
        else:
            found[-1] += _words(match)
    return [phrase for phrase in found if phrase]


def _expand(text: str, abbreviations: Mapping[str, str]) -> str:
    """Write abbreviations such as `Dr.` out, so that their full stop does not end a phrase."""
    for short, full in abbreviations.items():
        text = re.sub(rf"\b{re.escape(short)}(?:\.(?=\w))", f"{full} ", text, flags=re.IGNORECASE)
        text = re.sub(rf"\b{re.escape(short)}(?:\.|\b)", full, text, flags=re.IGNORECASE)
    return text


def _ascii(text: str) -> str:
    spaced = _FRACTION.sub(lambda sign: f" {sign[0]}", text.translate(_LOOKALIKES))
    kept = unicodedata.normalize("NFKD", spaced).replace("⁄", "/")
    return "".join(character for character in kept if character.isascii() or character in _CURRENCY)


def _words(match: Match[str]) -> list[str]:
    if match["clock"]:
        hours, minutes = match["clock"].split(":")
        return numbers.clock(int(hours), int(minutes))
    if match["coin"]:
        return [*numbers.cardinal(int(match["coins"])), _CURRENCY[match["coin"]][2]]
    if match["part"]:
        share = numbers.fraction(int(match["part"]), int(match["parts"]))
        if not match["whole"]:
            return share
        return [*numbers.cardinal(int(match["whole"])), "and", *(["a", *share[1:]] if match["part"] == "1" else share)]
    if match["currency"]:
        amount = match["amount"].replace(",", "")
        unit = _CURRENCY[match["currency"]][amount != "1"]
        cents = match["cents"]
        return [*numbers.integer(amount), unit, *(numbers.cardinal(int(cents)) if cents and int(cents) else [])]
    if match["ordinal"]:
        return numbers.ordinal(int(match["ordinal"]))
    if match["integer"] or match["decimals"]:
        words = ["minus"] if match["minus"] else []
        words += numbers.integer(match["integer"].replace(",", "")) if match["integer"] else []
        return words + (["point", *numbers.digits(match["decimals"])] if match["decimals"] else [])
    return [_SYMBOLS[match["symbol"]]] if match["symbol"] else [match["word"]]
