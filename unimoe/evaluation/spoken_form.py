"""Converts texts and transcripts to one spelling: numbers as digits, contractions in full, no punctuation.

A recognizer writes "4,370", "it's", "Dr." and "$1.50" where the text says "four thousand three hundred seventy", "it
is", "doctor" and "one dollar fifty". Both become the same tokens before the comparison, so that spelling does not count
as an error. The front end's reader writes out figures and signs; then a number becomes one token a digit: "forty two"
and "42" are both `4 2`. British and American spellings become one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from unimoe_runtime.frontend.reading import read_phrases

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
    "can't": "can not", "cannot": "can not", "won't": "will not", "shan't": "shall not", "let's": "let us",
    "y'all": "you all", "ok": "okay", "gonna": "going to", "wanna": "want to", "gotta": "got to", "its": "it is",
    "'em": "them", "o'clock": "oclock", "'cause": "because", "um": "", "uh": "", "til": "until", "mr": "mister",
    "mrs": "missus", "dr": "doctor", "prof": "professor", "vs": "versus", "etcetera": "et cetera",
    "alright": "all right",
}  # fmt: skip
_STRING: Final = re.compile(r"(?<![\d$£€-])(\d+)-(?=\d+(?![\d-]))|\b([A-Z])-(?=[A-Z]\b)")
_IS: Final = re.compile(r"\b(it|he|she|that|what|there|who|where|how|here|when|why)'s\b")
_SPELLINGS: Final = tuple(
    (re.compile(rf"\b{pattern}\b"), plain)
    for pattern, plain in (
        (r"([a-z]{2,})our(s|ed|ing|ite|ites|able|ful|hood|ly|y)?", r"\1or\2"),
        (r"([a-z]*(?:cent|met|lit|fib|theat|calib|somb|spect|lust|meag))re(s|d)?", r"\1er\2"),
        (r"([a-z]{2,})is(e|es|ed|ing|er|ers|ation|ations)", r"\1iz\2"),
        (r"([a-z]+)ys(e|es|ed|ing|er|ers)", r"\1yz\2"),
        (r"([a-z]*[aeiouy][a-z]*[^aeiouy][aeiou])ll(ed|ing|er|ers|ery|or|ors|ous)", r"\1l\2"),
        (r"(def|off|lic|pret)ence(s)?", r"\1ense\2"),
        (r"(catal|dial|anal|monol)ogue(s)?", r"\1og\2"),
        (r"(to|for|back|after|up|down|in|out)wards", r"\1ward"),
        (r"(fulfi|enro|insta|disti)l", r"\1ll"),
    )
)
"""Rules that make one spelling of the British and the American one; they may change both into a third."""
_SAME: Final = {
    "grey": "gray", "practise": "practice", "programme": "program", "programmes": "programs", "cheque": "check",
    "cheques": "checks", "tyre": "tire", "tyres": "tires", "plough": "plow", "sceptical": "skeptical", "kerb": "curb",
    "mould": "mold", "moustache": "mustache", "pyjamas": "pajamas", "jewellery": "jewelry", "jewelery": "jewelry",
    "whisky": "whiskey", "doughnut": "donut", "doughnuts": "donuts", "storey": "story", "ageing": "aging",
    "judgement": "judgment", "artefact": "artifact", "sulphur": "sulfur", "draught": "draft", "axe": "ax",
    "cosy": "cozy", "manoeuvre": "maneuver", "enquire": "inquire", "enquiry": "inquiry", "centred": "centered",
}  # fmt: skip
_CURRENCIES: Final = frozenset({"dollar", "dollars", "pound", "pounds", "euro", "euros"})
_COINS: Final = frozenset({"cent", "cents", "penny", "pence"})


def spoken_tokens(text: str) -> list[str]:
    """Tokens of a text or a transcript, ready for comparison."""
    text = _STRING.sub(r"\1\2 ", text)  # a transcript's 7-9 is a string of digits as often as a range
    read = " ".join(word.lower() for phrase in read_phrases(text) for word in phrase)
    read = _IS.sub(r"\1 is", read.replace("per cent", "percent"))
    words = [_one_spelling(part) for word in read.split() for part in _full_words(word)]
    for at, word in enumerate(words[1:]):
        if words[at] == "a" and (word == "hundred" or word in _SCALES):
            words[at] = "one"
    return _plain_values(_digits(words))


def spelled_like(tokens: Sequence[str], other: Sequence[str]) -> list[str]:
    """`tokens`, joined or split where `other` has the same letters with other spaces, such as `t v` and `tv`.

    `point` between digits is left out where `other` has none: "7.9" and "3.15" may stand for seven nine and a clock.
    """
    known = set(other)
    if "point" not in known:
        tokens = [token for at, token in enumerate(tokens) if not (token == "point" and _is_between_digits(tokens, at))]
    parts = {"".join(other[at : at + n]): other[at : at + n] for n in (2, 3) for at in range(len(other) - n + 1)}
    found: list[str] = []
    at = 0
    while at < len(tokens):
        joined = next((n for n in (3, 2) if at + n <= len(tokens) and "".join(tokens[at : at + n]) in known), 1)
        token = "".join(tokens[at : at + joined])
        found += [token] if token in known else parts.get(token, [token])
        at += joined
    return found


def _is_between_digits(tokens: Sequence[str], at: int) -> bool:
    return 0 < at < len(tokens) - 1 and tokens[at - 1].isdigit() and tokens[at + 1].isdigit()


def _full_words(word: str) -> list[str]:
    if word in _WHOLE:
        return _WHOLE[word].split()
    for ending, full in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending):
            return (word[: -len(ending)] + full).split()
    return [part for part in [word.replace("'", "")] if part]


def _one_spelling(word: str) -> str:
    """The American spelling of a word, or what the rules make of both spellings alike."""
    word = _SAME.get(word, word)
    for pattern, plain in _SPELLINGS:
        word = pattern.sub(plain, word)
    return word


def _plain_values(tokens: list[str]) -> list[str]:
    """Tokens without the words that are left out of a value at will, and halves as decimals.

    Left out are `and` and `to` between digits, `and` between a currency and digits, and the coins after such digits.
    """
    found: list[str] = []
    in_coins = False
    at = 0
    while at < len(tokens):
        before, after = (found[-1] if found else ""), tokens[at + 1] if at + 1 < len(tokens) else ""
        if tokens[at : at + 3] == ["and", "a", "half"] and before.isdigit():
            found += ["point", "5"]
            at += 3
            continue
        if tokens[at] == "and" and after.isdigit() and (before.isdigit() or before in _CURRENCIES):
            in_coins = before in _CURRENCIES
        elif tokens[at] == "to" and before.isdigit() and after.isdigit():
            pass
        elif tokens[at] in _COINS and before.isdigit() and in_coins:
            in_coins = False
        else:
            in_coins = tokens[at].isdigit() and (in_coins or before in _CURRENCIES)
            found.append("0" if tokens[at] == "oh" and before.isdigit() else tokens[at])
        at += 1
    return found


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
    return tokens


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
