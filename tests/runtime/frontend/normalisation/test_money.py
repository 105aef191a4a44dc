"""Amounts of money, read back."""

from __future__ import annotations

import pytest
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


DETERMINERS = ("a", "the", "this", "my", "each", "another", "a new", "their latest")
NOUNS = ("house", "coffee", "Starbucks card", "phone", "can", "long ticket")
AMOUNTS = {
    "$50": "fifty dollar",
    "$3.5 million": "three point five million dollar",
    "£1.5m": "one point five million pound",
    "US$20": "twenty US dollar",
    "€2.50": "two euro fifty cent",
    "$15/hour": "fifteen dollar per hour",
    "$2-3 million": "two to three million dollar",
    "$10-$20": "ten to twenty dollar",
    "50€": "fifty euro",
}
MEASURES = {
    "10 km": "ten kilometer",
    "5-ft": "five foot",
    "60 mph": "sixty mile per hour",
    "2-3 hr": "two to three hour",
}


def said(text: str) -> str:
    return ", ".join(" ".join(phrase) for phrase in read_phrases(text))


@pytest.mark.parametrize("determiner", DETERMINERS)
@pytest.mark.parametrize("written", [*AMOUNTS, *MEASURES])
def test_a_value_between_a_determiner_and_a_noun_is_an_attribute(determiner: str, written: str) -> None:
    for noun in NOUNS:
        if noun == "can" and determiner != "a":
            continue  # a verb, too
        wanted = f"{determiner} {(AMOUNTS | MEASURES)[written]} {noun.lower()}"
        assert said(f"{determiner} {written} {noun}") == wanted


@pytest.mark.parametrize("before", ["costs", "I paid", "about", "he lost", "up to"])
@pytest.mark.parametrize("after", ["for it", "in cash", "a day", "more", "", "each", "and left", "profit"])
def test_without_a_determiner_an_amount_is_plural(before: str, after: str) -> None:
    assert said(f"{before} $3.5 million {after}").split()[-1 - len(after.split())] == "dollars"
    assert said(f"{before} 10 km {after}").split()[-1 - len(after.split())] == "kilometers"


@pytest.mark.parametrize(
    "after", ["I paid", "in my pocket", "he owes me", "was stolen", "will help", "can wait", "went"]
)
@pytest.mark.parametrize("before", ["the", "my", "that", "this"])
def test_a_clause_or_a_verb_is_no_noun(before: str, after: str) -> None:
    for written, unit in (("$50", "dollars"), ("$20 billion", "dollars"), ("10 km", "kilometers")):
        assert f" {unit} " in said(f"{before} {written} {after}")
    assert "dollars buys" in said("I know that $50 buys a lot")


@pytest.mark.parametrize("written", ["$15-an-hour job", "$100-a-week room", "$5-per-day fee"])
def test_a_hyphen_makes_an_attribute(written: str) -> None:
    assert "dollars" not in said(written)


@given(st.integers(1, 999), st.integers(0, 999), st.sampled_from(["€{}", "{} €", "EUR {}", "{} euros"]))
def test_a_full_stop_parts_thousands_of_euros(thousands: int, rest: int, form: str) -> None:
    [words] = read_phrases(form.format(f"{thousands}.{rest:03}"))
    assert words[-1] == "euros"
    assert number(words[:-1]) == 1000 * thousands + rest


@pytest.mark.parametrize("unit", ["litre", "liter", "kWh", "l", "unit"])
def test_prices_with_three_decimals(unit: str) -> None:
    assert read_phrases(f"€1.509/{unit}")[0][:6] == ["one", "point", "five", "zero", "nine", "euros"]
    assert read_phrases("$1.509")[0][1] == "point"
    assert read_phrases("€0.125")[0][:2] == ["zero", "point"]
    assert read_phrases("€1.509 million")[0][1] == "point"
