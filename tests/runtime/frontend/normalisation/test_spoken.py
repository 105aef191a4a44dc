"""Pauses are ordered by strength."""

from __future__ import annotations

from unimoe_runtime.frontend.normalisation import Break


def test_a_paragraphs_pause_is_the_strongest() -> None:
    assert max(Break) is Break.PARAGRAPH and min(Break) is Break.CLAUSE
