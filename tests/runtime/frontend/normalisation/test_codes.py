"""Codes and addresses are read character by character."""

from __future__ import annotations

import pytest

from unimoe_runtime.frontend.normalisation import open_language
from unimoe_runtime.frontend.normalisation.rules import Reading


@pytest.mark.parametrize(
    ("reader", "text", "said"),
    [
        ("phone", "+1 (555) 0199", "plus one , five five five , zero one nine nine"),
        ("key", "3f9a8c", "three F nine A , eight C"),
        ("spell", "A1-b", "A one dash B"),
        ("address", "a.b@site.co.uk/x", "A dot B at site dot co dot U K slash X"),
        ("code", "GPT-3.5", "G P T three point five"),
        ("code", "X007", "X zero zero seven"),
    ],
)
def test_readers(reader: str, text: str, said: str) -> None:
    words = open_language("en").readers[reader](text, Reading(known=lambda word: word == "site"))
    assert words is not None and " ".join(words) == said
