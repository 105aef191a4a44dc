"""Numbers as words, read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.frontend.normalisation.reading_back import decimal, number, rank, year
from unimoe_runtime.frontend.normalisation import open_language
from unimoe_runtime.frontend.normalisation.numbers import plain_number, roman_value
from unimoe_runtime.frontend.reading import read_phrases

NUMBERS = open_language("en").numbers


@given(st.one_of(st.integers(0, 10**12), st.integers(0, 10**17), st.integers(0, 2000)))
def test_cardinals_can_be_read_back(value: int) -> None:
    assert number(NUMBERS.cardinal(value)) == value
    assert number(NUMBERS.number(f"{value:,}")) == value


@given(st.integers(1, 10**9))
def test_ordinals_can_be_read_back(value: int) -> None:
    assert rank(NUMBERS.ordinal(value)) == value


@given(st.decimals(-(10**6), 10**6, places=3, allow_nan=False))
def test_decimals_can_be_read_back(value: object) -> None:
    assert decimal(NUMBERS.number(f"{value}")) == f"{value}"


@given(st.integers(1000, 2099))
def test_years_can_be_read_back(value: int) -> None:
    assert year(NUMBERS.year(str(value))) == value


@given(st.integers(1, 3999))
def test_roman_numerals_can_be_read_back(value: int) -> None:
    rest, letters = value, ""
    for amount, sign in zip(
        (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1),
        ("M", "CM", "D", "CD", "C", "XC", "L", "XL", "X", "IX", "V", "IV", "I"),
        strict=True,
    ):
        letters, rest = letters + sign * (rest // amount), rest % amount
    assert roman_value(letters) == value


@pytest.mark.parametrize("text", ["", "IIII", "VX", "ABC", "IVI", "XXXX", "VV"])
def test_what_is_no_roman_numeral(text: str) -> None:
    assert roman_value(text) is None


def test_numbers_without_a_name_are_read_digit_by_digit() -> None:
    assert NUMBERS.cardinal(NUMBERS.largest)[0] == "nine"
    assert NUMBERS.cardinal(NUMBERS.largest + 1)[:2] == ["one", "zero"]
    assert plain_number("1,234.50") == "1234.50"
    assert plain_number("1.234.567") == "1234567"


@pytest.mark.parametrize("label", open_language("en").vocabulary("chapters").words)
def test_the_pronoun_after_a_label_is_no_numeral(label: str) -> None:
    for after in (" liked most", " was in", " want to see", "'m on"):
        assert "one" not in read_phrases(f"the {label} I{after}")[0]
    for written in (f"{label} I.", f"{label} I is long", f"{label} I and II", f"{label.title()} I"):
        assert "one" in read_phrases(written)[0]
