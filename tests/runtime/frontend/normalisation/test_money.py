"""Amounts of money, read back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.frontend.normalisation.reading_back import number
from unimoe_runtime.frontend.reading import read_phrases


def amount(words: list[str], one: str, several: str) -> int:
    """Hundredths of an amount in one currency."""
    sign = -1 if words[0] == "minus" else 1
    words = words[1:] if sign < 0 else words
    at = next((index for index, word in enumerate(words) if word in (one, several)), -1)
    whole = number(words[:at]) if at >= 0 else 0
    rest = words[at + 1 :]
    return sign * (100 * whole + (number(rest[:-1]) if rest else 0))


@given(st.integers(1, 10**10), st.sampled_from(["${}", "-${}", "${} ", "US${}"]), st.booleans())
def test_dollars_can_be_read_back(hundredths: int, form: str, grouped: bool) -> None:
    written = f"{hundredths / 100:,.2f}" if grouped else f"{hundredths / 100:.2f}"
    [words] = read_phrases(form.format(written))
    words = [word for word in words if word != "US"]
    assert amount(words, "dollar", "dollars") == (-hundredths if form[0] == "-" else hundredths)


@given(st.integers(1, 10**6), st.sampled_from(["€{}", "{} €", "{}€", "EUR {}"]))
def test_euros_before_and_behind_the_amount(whole: int, form: str) -> None:
    [words] = read_phrases(form.format(whole))
    assert words == [*words[:-1], "euro" if whole == 1 else "euros"]
    assert number(words[:-1]) == whole
