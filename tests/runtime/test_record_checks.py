"""The check of each type: it accepts exactly its values, and an error is one short line with the value's path."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.record_checks import MAX_TEXT, Between, Length, WrongValue, compiled, shown

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([10**40, -(10**45)]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=90), inner, max_size=4),
    max_leaves=12,
)


def no_records(kind: Any, value: Any) -> Any:
    raise AssertionError("there is no record here")


def is_number(value: Any, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


@given(VALUES)
def test_a_value_in_a_message_is_one_short_line(value: Any) -> None:
    assert len(shown(value)) < 140 and "\n" not in shown(value) and "\r" not in shown(value)


def test_values_that_are_hard_to_show() -> None:
    deep: list[Any] = []
    for _ in range(10**5):
        deep = [deep]
    assert shown(deep) == "a list nested too deep"
    assert shown([10**5000]) == "a list with an integer of thousands of digits"
    assert shown(10**5000) == "an integer of more than 40 digits"
    assert shown(list(range(13))) == "a list of 13 items"
    assert "\n" not in shown(np.zeros((3, 3)))


@given(VALUES, st.integers(-20, 20), st.integers(0, 20), st.booleans())
def test_numbers(value: Any, low: int, span: int, above: bool) -> None:
    limit = Between(low, low + span, above=above)
    for kind, kinds in ((int, (int,)), (float, (int, float))):
        is_allowed = is_number(value, *kinds) and low <= value <= low + span and not (above and value == low)
        assert accepts(Annotated[kind, limit], value) == is_allowed


@given(VALUES)
def test_numbers_without_limits_are_finite(value: Any) -> None:
    assert accepts(float, value) == (is_number(value, int, float) and abs(value) <= 1.8e308 and math.isfinite(value))
    assert accepts(int, value) == (is_number(value, int) and abs(value) < 1 << 63)


@given(VALUES, st.integers(0, 3), st.integers(0, 3))
def test_texts_lists_and_tables(value: Any, low: int, span: int) -> None:
    limit = Length(low, low + span)

    def fits(kind: type[str] | type[list[Any]] | type[dict[str, Any]]) -> bool:
        return isinstance(value, kind) and low <= len(value) <= low + span

    assert accepts(Annotated[str, limit], value) == (fits(str) and "\0" not in value)
    assert accepts(Annotated[tuple[Any, ...], limit], value) == fits(list)
    assert accepts(Annotated[Mapping[str, Any], limit], value) == (
        fits(dict) and all("\0" not in name for name in value)
    )
    assert accepts(tuple[Any, Any], value) == (isinstance(value, list) and len(value) == 2)
    assert accepts(Literal["a", 1, None], value) == (type(value) in (str, int, type(None)) and value in ("a", 1, None))
    assert accepts(bool, value) == isinstance(value, bool)


@given(VALUES)
def test_a_union_accepts_what_one_of_its_kinds_accepts(value: Any) -> None:
    kinds = (int, str, tuple[float, ...])
    assert accepts(int | str | tuple[float, ...] | None, value) == (
        value is None or any(accepts(kind, value) for kind in kinds)
    )


@given(VALUES)
def test_a_message_is_one_line_with_the_path(value: Any) -> None:
    check = compiled(Mapping[str, tuple[Mapping[str, Literal["never"]], ...]], no_records)
    with pytest.raises(WrongValue) as caught:
        check({"sizes": [{}, {"part": value}]})
    told = str(caught.value.as_config_error("limits"))
    assert told.startswith("limits.sizes[1].part is ") and told.endswith("; it must be 'never'") and "\n" not in told


def test_names_in_a_path_are_shortened_and_printable() -> None:
    error = WrongValue(1, "2").below("a\nb" + "c" * 99)
    message = str(error.as_config_error("where"))
    assert message.startswith("where.'a\\nbccc") and len(message) < 120


def test_records_inside_a_type_are_made_by_the_caller() -> None:
    @dataclass(frozen=True)
    class Point:
        x: int

    check = compiled(tuple[Point, ...], lambda kind, value: kind(value["x"]))
    assert check([{"x": 3}, Point(4)]) == (Point(3), Point(4))


def test_limits_in_words() -> None:
    assert str(Between(0, 1 << 20)) == "of at least 0, at most 1,048,576"
    assert str(Between(0.5, 2, above=True)) == "above 0.5, at most 2"
    assert not accepts(str, "a" * (MAX_TEXT + 1)) and accepts(str, "a" * MAX_TEXT)


def accepts(kind: Any, value: Any) -> bool:
    """Whether the check of a type accepts a value; its error is one line."""
    try:
        compiled(kind, no_records)(value)
    except WrongValue as error:
        told = error.as_config_error("where")
        assert isinstance(told, ConfigError) and "\n" not in str(told) and len(str(told)) < 400
        return False
    return True
