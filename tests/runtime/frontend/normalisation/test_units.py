"""Units of measure agree with their number."""

from __future__ import annotations

import pytest

from unimoe_runtime.frontend.normalisation import open_language
from unimoe_runtime.frontend.normalisation.rules import Reading


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
