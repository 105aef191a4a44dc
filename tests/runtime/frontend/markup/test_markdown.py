"""Markdown's marks are removed; the marked text stays."""

from __future__ import annotations

import pytest

from unimoe_runtime.frontend.markup import remove_markdown


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("# T", "T"),
        ("**a** b", "a b"),
        ("2*3*4", "2*3*4"),
        ("a_b_c", "a_b_c"),
        ("[t](u)", "t"),
        ("- a", "a"),
        ("-5", "-5"),
        (">100", ">100"),
        ("> said", "said"),
        ("`x`", "x"),
        ("~~a~~", "a"),
        ("$5 * 3", "$5 * 3"),
        ("plain", "plain"),
        ("[cat](/K AE1 T/)", "[cat](/K AE1 T/)"),
        ("\\*a", "\\*a"),
        ("***both***", "both"),
        ("[[pause 1s]]", "[[pause 1s]]"),
    ],
)
def test_marks(text: str, plain: str) -> None:
    assert remove_markdown(text) == plain
