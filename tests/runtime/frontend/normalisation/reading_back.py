"""Reads English number words back, so that properties can be tested."""

from __future__ import annotations

from collections.abc import Sequence

_SMALL = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
} | {word: 10 * value for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "quadrillion": 10**15}
_RANKS = {"first": "one", "second": "two", "third": "three", "fifth": "five", "eighth": "eight", "ninth": "nine"}


def number(words: Sequence[str]) -> int:
    """The value of a cardinal."""
    total = part = 0
    for word in words:
        if word == "hundred":
            part *= 100
        elif word in _LARGE:
            total, part = total + part * _LARGE[word], 0
        else:
            part += _SMALL[word]
    return total + part


def decimal(words: Sequence[str]) -> str:
    """A number with its decimals, as digits."""
    sign = "-" if words[0] == "minus" else ""
    words = words[1:] if sign else words
    if "point" not in words:
        return f"{sign}{number(words)}"
    at = list(words).index("point")
    return f"{sign}{number(words[:at])}." + "".join(str(_SMALL[word]) for word in words[at + 1 :])


def rank(words: Sequence[str]) -> int:
    """The value of an ordinal."""
    *start, last = words
    last = _RANKS.get(last) or ("twelve" if last == "twelfth" else last)
    if last not in _SMALL and last not in _LARGE and last != "hundred":
        last = f"{last[:-4]}y" if last.endswith("ieth") else last.removesuffix("th")
    return number([*start, last])


def year(words: Sequence[str]) -> int:
    """The value of a spoken year."""
    if "thousand" in words:
        return number(words)
    words = [word for word in words if word != "oh"]
    if words[-1] == "hundred":
        return 100 * number(words[:-1])
    for cut in range(1, len(words)):
        century, rest = number(words[:cut]), number(words[cut:])
        if 10 <= century <= 99 and rest <= 99 and (cut == len(words) - 1 or rest >= 20 or cut + 1 == len(words)):
            if century % 10 == 0 and century >= 20 and words[cut] in list(_SMALL)[1:10] and len(words) > cut + 1:
                continue
            return 100 * century + rest
    return number(words)
