"""Units of measure agree with their number."""

from __future__ import annotations

import pytest

from unimoe_runtime.frontend.normalisation import open_language
from unimoe_runtime.frontend.normalisation.rules import Reading
from unimoe_runtime.frontend.reading import read_phrases


@pytest.mark.parametrize(
    ("written", "one", "several"),
    [
        ("km", "kilometer", "kilometers"),
        ("ft", "foot", "feet"),
        ("m²", "square meter", "square meters"),
        ("km/h", "kilometer per hour", "kilometers per hour"),
        ("m/s²", "meter per second squared", "meters per second squared"),
        ("kg/m3", "kilogram per cubic meter", "kilograms per cubic meter"),
        ("N·m", "newton meter", "newton meters"),
    ],
)
def test_expressions(written: str, one: str, several: str) -> None:
    read = open_language("en").readers["units"]
    assert " ".join(read(written, Reading(known=lambda word: False, count="1")) or ()) == one
    assert " ".join(read(written, Reading(known=lambda word: False, count="5")) or ()) == several


MEASURES = {
    "60 mph": ("sixty mile per hour", "sixty miles per hour"),
    "10 kg": ("ten kilogram", "ten kilograms"),
    "2.5-hr": ("two point five hour", "two point five hours"),
    "20-30 mph": ("twenty to thirty mile per hour", "twenty to thirty miles per hour"),
    "5 to 10 km": ("five to ten kilometer", "five to ten kilometers"),
}


@pytest.mark.parametrize("written", MEASURES)
@pytest.mark.parametrize("before", ["", "we had ", "expect ", "with "])
def test_before_a_noun_that_is_measured_a_unit_is_singular(written: str, before: str) -> None:
    one, several = MEASURES[written]
    for noun in open_language("en").vocabulary("measured").words:
        for ending in ("", "s"):
            [words] = read_phrases(f"{before}{written} {noun}{ending}")
            assert " ".join(words).startswith(f"{before}{one} ")
    for after in ("of it", "and more", "from here", "today", ""):
        [words] = read_phrases(f"{before}{written.replace('-hr', ' hr')} {after}")
        assert " ".join(words) == f"{before}{several} {after}".strip()


@pytest.mark.parametrize("fraction", ["½", "¼", "¾"])
def test_a_part_of_one_is_singular(fraction: str) -> None:
    assert read_phrases(f"{fraction} tsp")[0][-1] == "teaspoon"
    assert read_phrases(f"2{fraction} tsp")[0][-1] == "teaspoons"


@pytest.mark.parametrize("points", [1, 5, 25, 50, 75, 150, 250])
def test_a_small_number_of_bps_is_one_of_basis_points(points: int) -> None:
    assert read_phrases(f"by {points} bps")[0][-2:] == ["basis", "point" if points == 1 else "points"]
    assert read_phrases(f"at {points}00 kbps")[0][-1] == "second"


@pytest.mark.parametrize("sign", ['"', "”", "″"])
@pytest.mark.parametrize("after", [" of snow", " wide", ".", ""])
def test_a_range_of_inches(sign: str, after: str) -> None:
    assert read_phrases(f"1-2{sign}{after}")[0][:4] == ["one", "to", "two", "inches"]
