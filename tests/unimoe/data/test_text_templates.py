"""Templates of sentences: choices, slots, years."""

from __future__ import annotations

import random
import re

import pytest

from unimoe.data.text_templates import TEMPLATES, expand, number_slots, spoken_year


def test_choices_and_slots_are_filled() -> None:
    slots = {"thing": lambda rng: "apple"}
    assert expand("(take) a <thing>( now|)!", slots, random.Random(1)) in ("Take an apple now!", "Take an apple!")
    assert expand("(a (b)|a (b))", {}, random.Random(0)) == "A b"


@pytest.mark.parametrize("kind", list(TEMPLATES))
def test_templates_leave_nothing_open(kind: str) -> None:
    words = "thing things food adjective animal place first last city furniture verb taste doing".split()
    slots = {**number_slots(), **{word: lambda rng: "word" for word in words}}
    rng = random.Random(3)
    for template in TEMPLATES[kind]:
        for _ in range(20):
            text = expand(template, slots, rng)
            assert re.fullmatch(r"[A-Z][A-Za-z',;:.!? ]+[.!?]", text), text


@pytest.mark.parametrize(
    ("year", "words"),
    [(1905, "nineteen oh five"), (1900, "nineteen hundred"), (2004, "two thousand four"), (2026, "twenty twenty six")],
)
def test_years_are_read_in_pairs(year: int, words: str) -> None:
    assert spoken_year(year) == words
