"""Fields of a request, read one by one with their ranges. An unknown field is refused by name.

A form's fields are all text, a JSON body's fields have types. Numbers and flags are read from both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from unimoe_runtime.records import shown
from unimoe_serving.errors import RequestError

_LONGEST_ENTRY = 200


def parse_object(text: str | bytes, what: str) -> dict[str, Any]:
    """The fields of a JSON object; `what` names it in errors. Raises RequestError, also for a field given twice."""
    try:
        values = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        raise RequestError(f"the {what} is not JSON", code="invalid_json") from None
    if not isinstance(values, dict):
        raise RequestError(f"the {what} is not a JSON object", code="invalid_json")
    return values


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise given_twice(name)
        values[name] = value
    return values


def given_twice(name: str) -> RequestError:
    """The error for a field that is given twice."""
    return RequestError(f"{shown(name)} is given twice", param=name[:100], code="invalid_value")


class Fields:
    """A request's fields. Every reader raises RequestError for a wrong value, with the field as its `param`."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def text(self, name: str, default: str | None = None, *, most: int = 1000) -> str:
        """A text of at most `most` characters; without a default the field is required."""
        value = self._take(name)
        if value is None:
            if default is None:
                raise RequestError(f"{name} is missing", param=name, code="missing_field")
            return default
        if not isinstance(value, str):
            raise _wrong(name, value, "a text")
        if len(value) > most:
            raise RequestError(
                f"{name} has {len(value)} characters; the limit is {most}: split it", param=name, code="too_long"
            )
        if any("\ud800" <= character <= "\udfff" or character == "\0" for character in value):
            raise RequestError(f"{name} holds characters that are not text", param=name, code="invalid_value")
        return value

    def choice(self, name: str, allowed: Sequence[str], default: str) -> str:
        """One of the allowed words."""
        value = self.text(name, default)
        if value not in allowed:
            raise _wrong(name, value, f"one of {', '.join(allowed)}")
        return value

    def number(self, name: str, least: float, most: float, default: float | None = None) -> float | None:
        """A number from `least` to `most`."""
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                raise _wrong(name, value, f"a number from {least:g} to {most:g}") from None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong(name, value, f"a number from {least:g} to {most:g}")
        if not least <= value <= most:  # compared as it is: a large whole number has no float, and NaN is in no range
            raise _wrong(name, value, f"a number from {least:g} to {most:g}")
        return float(value)

    def integer(self, name: str, least: int, most: int, default: int | None = None) -> int | None:
        """A whole number from `least` to `most`."""
        value = self._values.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            del self._values[name]  # read here, because a float would round a large seed
            return value
        number = self.number(name, least, most)
        if number is None:
            return default
        if not number.is_integer():
            raise _wrong(name, value, f"a whole number from {least} to {most}")
        return int(number)

    def flag(self, name: str) -> bool:
        """True or false; false if it is left out."""
        value = self._take(name)
        match value:
            case None | False | "false" | "0" | "":
                return False
            case True | "true" | "1":
                return True
        raise _wrong(name, value, "true or false")

    def texts(self, name: str, *, most: int = 200) -> dict[str, str] | None:
        """An object of texts, such as a lexicon."""
        value = self._take(name)
        if value is None:
            return None
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            raise _wrong(name, value, "an object of texts")
        if len(value) > most or any(len(text) > _LONGEST_ENTRY for pair in value.items() for text in pair):
            raise RequestError(
                f"{name} has more than {most} entries, or one longer than {_LONGEST_ENTRY}", param=name, code="too_long"
            )
        return value

    def voice(self) -> str:
        """A voice by name, or as `{"id": …}`, the form of OpenAI's own voices."""
        value = self._values.get("voice")
        if isinstance(value, dict):
            if not isinstance(value.get("id"), str):
                raise _wrong("voice", value, 'a text, or {"id": …}')
            self._values["voice"] = value["id"]
        return self.text("voice", "", most=100)

    def ignore(self, *names: str) -> None:
        """Accept fields that clients send and that have no effect here."""
        for name in names:
            self._values.pop(name, None)

    def finish(self) -> None:
        """Raise RequestError if a field was not read."""
        left = sorted(self._values)
        if left:
            raise RequestError(f"there is no field {shown(left[0])}", param=left[0][:100], code="unknown_field")

    def _take(self, name: str) -> Any:
        return self._values.pop(name, None)


def _wrong(name: str, value: Any, wanted: str) -> RequestError:
    return RequestError(f"{name} is {shown(value)}; it must be {wanted}", param=name, code="invalid_value")
