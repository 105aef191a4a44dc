"""Converts texts and transcripts to one spelling: numbers as digits, contractions in full, no punctuation.

A recognizer writes "4,370", "it's" and "Dr." where the text says "four thousand three hundred seventy", "it is" and
"doctor". Both become the same tokens before the comparison, so that spelling does not count as an error. A number
becomes one token a digit: "forty two" and "42" are both `4 2`.
"""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {
    word: number
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
}
_TENS: Final = {
    word: 10 * (at + 2) for at, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split())
}
_SCALES: Final = {"thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_ORDINALS: Final = {
    "first": "one", "second": "two", "third": "three", "fifth": "five", "eighth": "eight", "ninth": "nine",
    "twelfth": "twelve",
}  # fmt: skip
_ENDINGS: Final = (
    ("n't", " not"),
    ("'re", " are"),
    ("'ve", " have"),
    ("'ll", " will"),
    ("'m", " am"),
    ("'d", " would"),
)
_WHOLE: Final = {
    "can't": "can not", "cannot": "can not", "won't": "will not", "shan't": "shall not", "ok": "okay", "mr": "mister",
    "mrs": "missus", "dr": "doctor", "prof": "professor", "vs": "versus", "gonna": "going to", "wanna": "want to",
    "its": "it is", "'em": "them", "o'clock": "oclock", "'cause": "because", "percent": "percent", "um": "", "uh": "",
    "pm": "p m", "am": "am", "km": "kilometers", "theatre": "theater", "grey": "gray", "til": "until",
}  # fmt: skip
_IS: Final = re.compile(r"\b(it|he|she|that|what|there|who|where|how|here|when|why)'s\b")
_CURRENCY: Final = {"$": "dollars", "£": "pounds", "€": "euros"}
_BRITISH: Final = (
    (r"(col|fav|harb|hon|lab|neighb|flav|behavi|rum|vap)our", r"\1or"),
    (r"(cent|met|lit|fib)re\b", r"\1er"),
)


def spoken_tokens(text: str) -> list[str]:
    """Tokens of a text or a transcript, ready for comparison."""
    text = text.lower().replace("’", "'").replace("‘", "'")
    text = re.sub(r"([$£€])(\d[\d,]*)(?:\.(\d\d))?", _money, text)
    text = re.sub(r"(\d):00\b", r"\1 oclock", text)
    text = re.sub(r"(\d):(\d\d)\b", r"\1 \2", text)
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"(?<=\d)\.(?=\d)", " point ", text)
    text = re.sub(r"\b([ap])\.m\b\.?|(?<=\d) ?([ap])m\b", lambda half: f" {half[1] or half[2]} m", text)
    text = text.replace("%", " percent ").replace("&", " and ").replace("+", " plus ").replace("°", " degrees ")
    text = re.sub(r"(\d+)(?:st|nd|rd|th)\b", r"\1 th ", text)
    for pattern, plain in _BRITISH:
        text = re.sub(pattern, plain, text)
    text = _IS.sub(r"\1 is", text)
    words = [part for word in re.findall(r"[a-z']+|\d+", text) for part in _full_words(word)]
    return _digits(words)


def _money(match: re.Match[str]) -> str:
    cents = f" and {match[3]} cents" if match[3] and match[3] != "00" else ""
    return f" {match[2]} {_CURRENCY[match[1]]}{cents} "


def _full_words(word: str) -> list[str]:
    if word in _WHOLE:
        return _WHOLE[word].split()
    for ending, full in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending):
            return (word[: -len(ending)] + full).split()
    return [part for part in [word.replace("'", "")] if part]


def _digits(words: list[str]) -> list[str]:
    """Number words and numerals as one token a digit. An ordinal ends with the token `th`."""
    tokens: list[str] = []
    at = 0
    while at < len(words):
        taken, number, ordinal = _read_number(words, at)
        if taken:
            tokens += [*number, *(["th"] if ordinal else [])]
            at += taken
        else:
            tokens.append(words[at])
            at += 1
    joined = [
        token for at, token in enumerate(tokens)
        if not (token == "and" and 0 < at < len(tokens) - 1 and tokens[at - 1].isdigit() and tokens[at + 1].isdigit())
    ]  # fmt: skip
    return ["0" if token == "oh" and at > 0 and joined[at - 1].isdigit() else token for at, token in enumerate(joined)]


def _read_number(words: list[str], start: int) -> tuple[int, str, bool]:
    """Number of words taken from `start`, their digits, and whether they are an ordinal; 0 words without a number."""
    if words[start].isdigit():
        return 1, words[start], False
    total = group = 0
    last = ""  # the kind of the previous word
    at = start
    while at < len(words):
        word, ordinal = _cardinal_of(words[at])
        value = _UNITS.get(word, _TENS.get(word, -1))
        if word in _TENS and last in ("", "hundred", "scale"):
            group, last = group + value, "tens"
        elif word in _UNITS and (last in ("", "hundred", "scale") or (last == "tens" and 0 < value < 10)):
            group, last = group + value, "unit"
        elif word == "hundred" and last in ("unit", "tens"):
            group, last = group * 100, "hundred"
        elif word in _SCALES and last not in ("", "scale"):
            total, group, last = total + group * _SCALES[word], 0, "scale"
        elif word == "and" and last in ("hundred", "scale") and at + 1 < len(words) and _is_number(words[at + 1]):
            pass
        else:
            break
        at += 1
        if ordinal:
            return at - start, str(total + group), True
    return at - start, str(total + group), False


def _is_number(word: str) -> bool:
    word, _ = _cardinal_of(word)
    return word in _UNITS or word in _TENS


def _cardinal_of(word: str) -> tuple[str, bool]:
    """The cardinal of an ordinal and True; any other word and False."""
    if word in _ORDINALS:
        return _ORDINALS[word], True
    for ending, plain in (("ieth", "y"), ("th", "")):
        stem = word.removesuffix(ending) + plain
        if word.endswith(ending) and (stem in _UNITS or stem in _TENS or stem in _SCALES or stem == "hundred"):
            return stem, True
    return word, False
