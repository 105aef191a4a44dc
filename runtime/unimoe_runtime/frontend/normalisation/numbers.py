"""Numbers as words: cardinals of any size, ordinals, decimals, fractions, years, Roman numerals, strings of digits.

The words come from a language's tables. `[cardinals]` holds rows `value <TAB> words`: for a number, the row with the
greatest value not above it applies. In a row `<<` is the quotient of the number and the row's power of ten, `>>` is the
remainder, and a part in [brackets] is dropped where the remainder is zero. A row `=value` applies to that number only.
`[ordinals]` turns a cardinal's last word into an ordinal: the first matching row, where `*` stands for any beginning.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from unimoe_runtime.frontend.normalisation.rules import Reader, Reading

_SEPARATORS = re.compile(r"[,_'’\s]")
_ROMAN = (
    ("m", 1000), ("cm", 900), ("d", 500), ("cd", 400), ("c", 100), ("xc", 90), ("l", 50), ("xl", 40), ("x", 10),
    ("ix", 9), ("v", 5), ("iv", 4), ("i", 1),
)  # fmt: skip
_ROMAN_FORM = re.compile("m{0,3}(?:cm|cd|d?c{0,3})(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})")
_ONLY_ROMAN = re.compile("II|X{0,2}(?:VI{2,3}|I{3}|XI{1,3}|XIV|XVI{0,3}|XI?X)")
_OPTIONAL = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True, kw_only=True, eq=False)
class Numbers:
    """Number words of one language. `terms` are single words such as `point` and `minus`, by their English name."""

    cardinals: Mapping[str, str]
    ordinals: Mapping[str, str]
    denominators: Mapping[str, str]
    terms: Mapping[str, str]
    decimal_sign: str = "."

    @functools.cached_property
    def _bases(self) -> list[tuple[int, str]]:
        rows = ((int(value), words) for value, words in self.cardinals.items() if value.isdigit())
        return sorted(rows, reverse=True)

    @property
    def largest(self) -> int:
        """The largest number with a name; larger ones are read digit by digit."""
        return self._bases[0][0] * 1000 - 1

    def cardinal(self, number: int) -> list[str]:
        """Words of 0, 1, 2 … such as 1,042: one thousand forty two."""
        if number > self.largest:
            return self.digits(str(number))
        return self._cardinal(number).split()

    def _cardinal(self, number: int) -> str:
        exact = self.cardinals.get(f"={number}")
        if exact is not None:
            return exact
        base, words = next(row for row in self._bases if row[0] <= number)
        power = 10 ** (len(str(base)) - 1)
        times, rest = divmod(number, power)
        words = _OPTIONAL.sub(lambda part: part[1] if rest else "", words)
        if "<<" in words:
            words = words.replace("<<", self._cardinal(times))
        return words.replace(">>", self._cardinal(rest)) if ">>" in words else words

    def ordinal(self, number: int) -> list[str]:
        """Words of a rank, such as 21: twenty first."""
        *start, last = self.cardinal(number)
        for ending, replacement in self.ordinals.items():
            if ending.startswith("*"):
                if last.endswith(ending[1:]):
                    stem = last[: len(last) - len(ending) + 1]
                    return [*start, replacement.replace("*", stem)]
            elif last == ending:
                return [*start, replacement]
        return [*start, last]

    def digits(self, text: str) -> list[str]:
        """A word for each digit; all other signs are skipped."""
        return [self._cardinal(int(digit)) for digit in text if digit.isdecimal()]

    def integer(self, text: str) -> list[str]:
        """Words of a written integer: a cardinal, or digit by digit where it starts with a zero."""
        return self.digits(text) if len(text) > 1 and text[0] == "0" else self.cardinal(int(text))

    def number(self, text: str) -> list[str]:
        """Words of a written number with or without sign, grouping and decimals, such as -1,234.5 or 2½."""
        text = text.strip()
        sign = text[:1]
        if sign in ("-", "−", "–", "+"):
            return [self.terms["plus" if sign == "+" else "minus"], *self.number(text[1:])]
        if text[-1:] and not text[-1].isdigit() and unicodedata.normalize("NFKC", text[-1]) != text[-1]:
            part, _, parts = unicodedata.normalize("NFKC", text[-1]).partition("⁄")
            return self.mixed(text[:-1], part, parts)
        whole, point, decimals = plain_number(text, self.decimal_sign).partition(".")
        words = self.integer(whole) if whole else []
        return [*words, self.terms["point"], *self.digits(decimals)] if point and decimals else words

    def mixed(self, whole: str, part: str, parts: str) -> list[str]:
        """Words of a fraction after a whole number or alone, such as 2½: two and a half."""
        share = self.fraction(int(part), int(parts))
        whole = _SEPARATORS.sub("", whole)
        if not whole:
            return share
        if part == "1":
            share = [self.terms["an" if share[1][0] in "aeiou" else "a"], *share[1:]]
        return [*self.cardinal(int(whole)), self.terms["and"], *share]

    def fraction(self, part: int, parts: int) -> list[str]:
        """Words of a fraction, such as 1/2: one half, 3/4: three quarters, 2/5: two fifths, 7/1000: seven over …"""
        if not 2 <= parts <= 100 or part > parts > 16:
            return [*self.cardinal(part), self.terms["over"], *self.cardinal(parts)]
        single, _, several = self.denominators.get(str(parts), "").partition("|")
        if not single:
            single = " ".join(self.ordinal(parts))
            several = f"{single}{self.terms['plural']}"
        return [*self.cardinal(part), *(single if part == 1 else several).split()]

    def year(self, text: str) -> list[str]:
        """Words of a year, such as 1905: nineteen oh five, 2000: two thousand, 1066: ten sixty six."""
        number = int(text)
        century, rest = divmod(number, 100)
        if text == "00":
            return self.cardinal(2000)
        if len(text) == 2:
            return [self.terms["oh"], *self.cardinal(rest)] if text[0] == "0" else self.cardinal(rest)
        if len(text) != 4 or text[0] == "0" or (century % 10 == 0 and rest < 10):
            return self.cardinal(number)
        if rest == 0:
            return [*self.cardinal(century), self.terms["hundred"]]
        return [*self.cardinal(century), *([self.terms["oh"]] if rest < 10 else []), *self.cardinal(rest)]

    def pairs(self, text: str) -> list[str]:
        """Words of a number that is a name, such as 204: two oh four, 815: eight fifteen, 1549: fifteen forty nine."""
        if len(text) not in (3, 4) or text[0] == "0" or text.endswith("000"):
            return self.integer(text)
        first, rest = divmod(int(text), 100)
        if rest == 0:
            return [*self.cardinal(first), self.terms["hundred"]]
        return [*self.cardinal(first), *([self.terms["oh"]] if rest < 10 else []), *self.cardinal(rest)]

    def long_roman(self, text: str) -> list[str] | None:
        """Words of a capital Roman numeral of four letters and more, such as MMXXIV: a year where it can be one."""
        value = roman_value(text) if len(text) > 3 and text.isupper() else None
        if value is None:
            return None
        return self.year(str(value)) if 1000 <= value < 2100 else self.cardinal(value)

    def decade(self, text: str) -> list[str]:
        """Words of ten years, such as 1990: nineteen nineties, 80: eighties, 2000: two thousands."""
        *start, last = self.year(text)
        stem = last[:-1] + "ie" if last.endswith("y") else last
        return [*start, stem + ("es" if last.endswith("x") else "s")]


def plain_number(text: str, decimal_sign: str = ".") -> str:
    """A written number without grouping, with a full stop before its decimals."""
    text = _SEPARATORS.sub("", text) if decimal_sign == "." else re.sub(r"[.\s'’]", "", text)
    if text.count(".") > 1:
        text = text.replace(".", "")
    return text.replace(decimal_sign, ".")


def roman_value(text: str) -> int | None:
    """The value of a Roman numeral in its shortest form; None for any other text."""
    value, rest = 0, text.lower()
    if not _ROMAN_FORM.fullmatch(rest):
        return None
    for letters, amount in _ROMAN:
        while rest.startswith(letters):
            value, rest = value + amount, rest[len(letters) :]
    return value or None


def number_readers(numbers: Numbers) -> dict[str, Reader]:
    """Readers of numbers. They remember the number, so that the next noun agrees with it."""

    def counted(read: Reader) -> Reader:
        def reader(text: str, reading: Reading) -> list[str] | None:
            count = text.lstrip("-−–+ ")
            reading.count = "1" if len(count) == 1 and not count.isdecimal() else count  # ½
            return read(text, reading)

        return reader

    def plain(read: Reader) -> Reader:
        return lambda text, reading: read(_SEPARATORS.sub("", text), reading)

    def roman_checked(text: str, reading: Reading) -> list[str] | None:
        value = roman_value(text)
        return None if value is None else numbers.cardinal(value)

    def roman_named(text: str, reading: Reading) -> list[str] | None:
        """A numeral after a name, that is a capitalised word; longer numerals anywhere; a rank after `the`."""
        value = roman_value(text)
        if value is None or not (reading.before[:1].isupper() or _ONLY_ROMAN.fullmatch(text)):
            return None
        return numbers.ordinal(value) if reading.before.lower() == numbers.terms.get("the") else numbers.cardinal(value)

    def superscript(text: str, reading: Reading) -> list[str]:
        return numbers.integer(unicodedata.normalize("NFKC", text))

    def span(text: str, reading: Reading) -> list[str]:
        """The word for a hyphen between the numbers `a` and `n`: minus where spaces surround it and `n` is less."""
        first, second = (float(plain_number(reading.groups[name]) or 0) for name in ("a", "n"))
        return [numbers.terms["minus" if text != text.strip() and second < first else "to"]]

    def common_fraction(text: str, reading: Reading) -> list[str] | None:
        """A fraction of a measure: 3/8, but not 50/60."""
        part, parts = (int(number) for number in re.split("[/⁄]", text))
        return numbers.fraction(part, parts) if parts <= 16 or parts in (20, 32, 64, 100) else None

    def dividend(text: str, reading: Reading) -> list[str] | None:
        return numbers.cardinal(int(text)) if int(text) >= int(reading.groups["n"]) else None

    def several(text: str, reading: Reading) -> list[str]:
        """No words; the next noun is plural."""
        reading.count = ""
        return []

    def house_number(text: str, reading: Reading) -> list[str]:
        return numbers.year(text) if len(text) == 4 else numbers.integer(text)

    def continental(text: str, reading: Reading) -> list[str]:
        return numbers.number(re.sub(r"[.\s'’]", "", text).replace(",", "."))

    def components(text: str, reading: Reading) -> list[str]:
        """Numbers between full stops, as in a version: each a cardinal, or digit by digit after a leading zero."""
        words: list[str] = []
        for part in text.split("."):
            words += [numbers.terms["point"], *numbers.integer(part)]
        return words[1:]

    return {
        "cardinal": counted(plain(lambda text, _: numbers.integer(text))),
        "number": counted(lambda text, _: numbers.number(text)),
        "continental": counted(continental),
        "ordinal": plain(lambda text, _: numbers.ordinal(int(text))),
        "digits": lambda text, _: numbers.digits(text),
        "year": lambda text, _: numbers.year(text),
        "pairs": lambda text, _: numbers.pairs(text),
        "decade": lambda text, _: numbers.decade(text),
        "yeary": lambda text, _: numbers.year(text.lstrip("'’")),
        "decadey": lambda text, _: numbers.decade(text.lstrip("'’")),
        "house_number": house_number,
        "superscript": superscript,
        "common_fraction": counted(common_fraction),
        "power": lambda text, _: [numbers.terms["squared" if text == "2" else "cubed"]],
        "span": span,
        "dividend": dividend,
        "several": several,
        "roman_checked": roman_checked,
        "roman_named": roman_named,
        "roman_ordinal": lambda text, _: numbers.ordinal(roman_value(text) or 0),
        "components": components,
        "fraction": counted(lambda text, _: numbers.fraction(*(int(part) for part in re.split(r"\s*[/⁄]\s*", text)))),
        "mixed": counted(lambda text, _: numbers.mixed(*re.split(r"(?:\s+|-)(?=\d+[/⁄])|[/⁄]", text))),
    }
