"""Vocabularies: with and without capitals."""

from __future__ import annotations

import re

from unimoe_runtime.frontend.normalisation.vocabulary import Vocabulary


def test_capitals_count_only_in_an_exact_one() -> None:
    free, exact = (
        Vocabulary(words={"Mar": "march"}),
        Vocabulary(words={"mW": "milliwatt", "MW": "megawatt"}, exact=True),
    )
    assert free.find("MAR") == "march" and "mar" in free
    assert exact.find("mW") == "milliwatt" and exact.find("mw") is None
    assert re.fullmatch(free.pattern, "mAR") and not re.fullmatch(exact.pattern, "mw")


def test_the_longest_entry_wins_and_any_space_will_do() -> None:
    words = Vocabulary(words={"a": "1", "a b": "2"})
    match = re.match(words.pattern, "a  b")
    assert match is not None and words.find(match[0]) == "2"
