"""Durations, rates and attributes."""

from __future__ import annotations

import pytest

from unimoe_runtime.errors import PromptError
from unimoe_runtime.frontend.markup.values import parse_rate, parse_seconds, read_attributes


def test_values() -> None:
    assert [parse_seconds(text, "") for text in ("500ms", "1.5s", "2", ".5 s")] == [0.5, 1.5, 2.0, 0.5]
    assert [parse_rate(text) for text in ("slow", "120%", "+20%", "-10%", "1.5")] == pytest.approx(
        [0.75, 1.2, 1.2, 0.9, 1.5]
    )
    assert read_attributes(""" a="1" B='2' """) == {"a": "1", "b": "2"}


@pytest.mark.parametrize("text", ["soon", "1m", "-1s", "99s"])
def test_what_is_no_length(text: str) -> None:
    with pytest.raises(PromptError):
        parse_seconds(text, "[[pause]]")
