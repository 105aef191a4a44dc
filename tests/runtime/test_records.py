"""Records: one mechanism checks the fields of a file and reports any error in one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.records import Between, JsonRecord, Length, check_value


@dataclass(frozen=True, kw_only=True)
class Part(JsonRecord):
    name: str
    sizes: Annotated[tuple[Annotated[int, Between(1, 9)], ...], Length(1, 3)] = (1,)


@dataclass(frozen=True, kw_only=True)
class Whole(JsonRecord):
    kind: Literal["a", "b"]
    share: Annotated[float, Between(0, 1, above=True)]
    parts: tuple[Part, ...] = ()
    limits: Mapping[str, Annotated[int, Between(0, 100)]] | None = None
    pair: tuple[int, str] = (0, "")
    on: bool = False

    def check_together(self) -> None:
        if self.on and self.kind == "b":
            raise ConfigError("on is for kind 'a'")


SOUND: dict[str, Any] = {
    "kind": "a", "share": 0.5, "parts": [{"name": "x", "sizes": [1, 2]}], "limits": {"n": 3}, "pair": [1, "y"],
    "on": True,
}  # fmt: skip


def test_round_trip() -> None:
    record = Whole.from_dict(SOUND)
    assert record.parts == (Part(name="x", sizes=(1, 2)),)
    assert record.to_dict() == SOUND
    assert Whole.from_dict(record.to_dict()) == record == Whole(**vars(record))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "c"}, "kind is 'c'; it must be 'a' or 'b'"),
        ({"share": 0}, "share is 0; it must be a number above 0, at most 1"),
        ({"share": float("nan")}, "share is nan; it must be a number above 0, at most 1"),
        ({"share": True}, "share is True; it must be a number above 0, at most 1"),
        (
            {"parts": [{"name": "x"}, {"name": "y", "sizes": [3, 10]}]},
            r"parts\[1\]\.sizes\[1\] is 10; it must be an int",
        ),
        ({"parts": [{"name": 3}]}, r"parts\[0\]\.name is 3; it must be a text"),
        ({"parts": [{}]}, r"parts\[0\]: the field 'name' is missing"),
        ({"parts": [{"name": "x", "sizes": []}]}, r"parts\[0\]\.sizes is \[\]; it must be a list of 1 to 3 items"),
        ({"limits": {"n": 10**60}}, r"limits\.n is an integer of more than 40 digits; it must be"),
        ({"pair": [1]}, r"pair is \[1\]; it must be a list of 2 items"),
        ({"on": True, "kind": "b"}, "on is for kind 'a'"),
        ({"colour": 1}, "Whole does not know the field 'colour'; known: kind, limits"),
    ],
)
def test_one_line_says_where_and_what(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Whole.from_dict({**SOUND, **change})
    assert "\n" not in str(caught.value)
    if "colour" not in change and "parts" not in change:
        with pytest.raises(ConfigError, match=message):
            Whole(**{**vars(Whole.from_dict(SOUND)), **change})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_anything_is_a_record_or_one_line(value: Any) -> None:
    for kind in (Whole, tuple[Part, ...], Mapping[str, int], float, str | None, Any):
        try:
            check_value(value, kind, "x")
        except ConfigError as error:
            assert len(str(error)) < 1000 and "\n" not in str(error)


@given(st.sampled_from(sorted(SOUND)), json_values)
def test_a_field_of_anything(name: str, value: Any) -> None:
    try:
        record = Whole.from_dict({**SOUND, name: value})
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        assert Whole.from_dict(record.to_dict()) == record
