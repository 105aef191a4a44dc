"""Texts read sign by sign or in parts: addresses, file names, phone numbers, keys, and words that contain digits."""

from __future__ import annotations

import re
from collections.abc import Mapping

from unimoe_runtime.frontend.normalisation.numbers import Numbers
from unimoe_runtime.frontend.normalisation.rules import Reader, Reading
from unimoe_runtime.frontend.normalisation.spoken import INNER_PAUSE
from unimoe_runtime.frontend.normalisation.vocabulary import Vocabulary
from unimoe_runtime.frontend.normalisation.words import Spelling

_RUN = re.compile(r"\d+|[A-Za-z]+|.", re.DOTALL)
_LONGEST_WORD = 24
_KEY_GROUP = 4


def code_readers(numbers: Numbers, vocabularies: Mapping[str, Vocabulary]) -> dict[str, Reader]:
    """`address` names every sign, `code` skips hyphens, `phone` and `key` read digit by digit in groups."""
    signs = vocabularies.get("code_signs", Vocabulary(words={}))
    spelling = Spelling(vocabularies=vocabularies)

    def number(digits: str, *, in_name: bool) -> list[str]:
        """Up to two digits as a number, and in a name also a year or a round number; else digit by digit."""
        if in_name and re.fullmatch("(?:19|20)\\d\\d", digits):
            return numbers.year(digits)
        is_number = len(digits) <= 2 or (in_name and re.fullmatch("[1-9]0{2,3}", digits))
        return numbers.integer(digits) if is_number else numbers.digits(digits)

    def letters(run: str, reading: Reading, *, ends: bool = False) -> list[str]:
        if len(run) > _LONGEST_WORD:
            return spelling.spell(run)
        return spelling.name(run, reading.known, ends=ends)

    def read(text: str, reading: Reading, *, silent: str) -> list[str]:
        words: list[str] = []
        for match in _RUN.finditer(text):
            run = match[0]
            if run[0].isdecimal():
                words += number(run, in_name=not silent)
            elif run[0].isalpha():
                words += letters(run, reading, ends=text[: match.start()].endswith("."))
            elif run == "." and silent and text[match.end() : match.end() + 1].isdigit():
                words.append(numbers.terms["point"])
            elif run not in silent:
                words += (signs.find(run) or "").split()
        return words

    def phone(text: str, reading: Reading) -> list[str]:
        words: list[str] = []
        for group in re.findall(r"\+|\d+|[A-Za-z]+", text):
            if group == "+":
                words.append(numbers.terms["plus"])
                continue
            if words and words[-1] != numbers.terms["plus"]:
                words.append(INNER_PAUSE)
            words += numbers.digits(group) if group.isdecimal() else letters(group, reading)
        return words

    def key(text: str, reading: Reading) -> list[str]:
        """Sign by sign, with a pause after every group."""
        words: list[str] = []
        for group in re.findall(r"[^\W_]+", text):
            for start in range(0, len(group), _KEY_GROUP):
                if words:
                    words.append(INNER_PAUSE)
                for sign in group[start : start + _KEY_GROUP]:
                    words += numbers.digits(sign) if sign.isdecimal() else spelling.spell(sign)
        return words

    def signs_apart(text: str, reading: Reading) -> list[str]:
        """Sign by sign, signs by their names."""
        words: list[str] = []
        for sign in text:
            if sign.isdecimal():
                words += numbers.digits(sign)
            elif sign.isalpha():
                words += spelling.spell(sign)
            else:
                words += (signs.find(sign) or "").split()
        return words

    return {
        "address": lambda text, reading: read(text, reading, silent=""),
        "code": lambda text, reading: read(text, reading, silent="-_"),
        "phone": phone,
        "key": key,
        "spell": signs_apart,
    }
