"""Fields of JSON bodies and of forms, inside and outside their ranges."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimoe_serving.errors import RequestError
from unimoe_serving.fields import Fields, parse_object


def test_json_and_forms_read_alike() -> None:
    for values in ({"a": 2, "b": 1.5, "c": True, "d": "x"}, {"a": "2", "b": "1.5", "c": "true", "d": "x"}):
        fields = Fields(values)
        assert fields.integer("a", 0, 5) == 2
        assert fields.number("b", 0, 5) == 1.5
        assert fields.flag("c") is True
        assert fields.choice("d", ("x", "y"), "y") == "x"
        fields.finish()


def test_what_is_not_there() -> None:
    fields = Fields({"a": None})
    assert fields.text("a", "default") == "default" and fields.number("b", 0, 1, 0.5) == 0.5
    assert fields.integer("c", 0, 1) is None and fields.flag("d") is False and fields.texts("e") is None
    assert fields.voice() == ""
    with pytest.raises(RequestError, match="f is missing"):
        fields.text("f")


def test_large_numbers_stay_whole() -> None:
    assert Fields({"seed": (1 << 63) - 1}).integer("seed", 0, (1 << 63) - 1) == (1 << 63) - 1


@pytest.mark.parametrize("lexicon", ["x", ["x"], {"a": 1}, {"a": "x" * 300}, {str(index): "a" for index in range(300)}])
def test_lexicons_that_are_none(lexicon: Any) -> None:
    with pytest.raises(RequestError, match="lexicon"):
        Fields({"lexicon": lexicon}).texts("lexicon")


def test_left_over_fields_are_named() -> None:
    fields = Fields({"b": 1, "a": 1, "known": 1})
    fields.ignore("known")
    with pytest.raises(RequestError, match="there is no field 'a'") as refused:
        fields.finish()
    assert refused.value.param == "a"


@given(value=st.floats() | st.integers() | st.integers(300, 4000).map(lambda digits: 10**digits))
def test_numbers_of_any_size(value: float) -> None:
    """A number is read or refused; a large one does not overflow."""
    for given_value in (value, -value):
        for read in (Fields({"a": given_value}).number, Fields({"a": given_value}).integer):
            try:
                assert 0 <= (read("a", 0, 5) or 0) <= 5
            except RequestError as refused:
                assert refused.param == "a" and "\n" not in str(refused)


@pytest.mark.parametrize("voice", [{}, {"id": None}, {"id": 3}, {"name": "ann"}])
def test_a_voice_without_an_id(voice: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"voice is .* must be a text"):
        Fields({"voice": voice}).voice()


@pytest.mark.parametrize("body", ['{"a": 1, "a": 2}', '{"lexicon": {"a": "b", "a": "c"}}'])
def test_a_field_given_twice(body: str) -> None:
    with pytest.raises(RequestError, match="'a' is given twice"):
        parse_object(body, "body")
