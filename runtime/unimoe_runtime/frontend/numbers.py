"""English number words for what a text normaliser meets: cardinals, ordinals, fractions, digit strings, times."""

from __future__ import annotations

LARGEST_CARDINAL = 999_999

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}


def cardinal(number: int) -> list[str]:
    """Words of 0 … 999,999, such as 1,042: one thousand forty two."""
    if not 0 <= number <= LARGEST_CARDINAL:
        raise ValueError(f"number is {number}; cardinals go from 0 to {LARGEST_CARDINAL}")
    if number < 20:
        return [_ONES[number]]
    if number < 100:
        return [_TENS[number // 10], *(cardinal(number % 10) if number % 10 else [])]
    unit, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    return [*cardinal(number // unit), name, *(cardinal(number % unit) if number % unit else [])]


def ordinal(number: int) -> list[str]:
    """Words of a rank, such as 21: twenty first."""
    *start, last = cardinal(number)
    if last in _ORDINALS:
        return [*start, _ORDINALS[last]]
    return [*start, last[:-1] + "ieth" if last.endswith("y") else last + "th"]


def fraction(part: int, parts: int) -> list[str]:
    """Words of a fraction, such as 1/2: one half, 3/4: three quarters, 2/5: two fifths."""
    name = {2: "half", 4: "quarter"}.get(parts) or " ".join(ordinal(parts))
    several = "halves" if parts == 2 else f"{name}s"
    return [*cardinal(part), name if part == 1 else several]


def digits(text: str) -> list[str]:
    """A word for each digit of a string of digits."""
    return [_ONES[int(digit)] for digit in text]


def integer(text: str) -> list[str]:
    """Words of a written integer: a cardinal, or digit by digit where it is long or starts with a zero."""
    if len(text) > 6 or (len(text) > 1 and text[0] == "0"):
        return digits(text)
    return cardinal(int(text))


def clock(hours: int, minutes: int) -> list[str]:
    """Words of a time of day: 7:00 seven o'clock, 7:05 seven oh five, 7:30 seven thirty."""
    if minutes == 0:
        return [*cardinal(hours), "o'clock"] if hours <= 12 else [*cardinal(hours), "hundred"]
    return [*cardinal(hours), *(["oh"] if minutes < 10 else []), *cardinal(minutes)]
