"""The checks of record fields: one function per type, made once and used for every value."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from numbers import Integral, Real
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from unimoe_runtime.errors import ConfigError

MAX_TEXT = 1 << 20
"""Default limit on the characters of a text."""
MAX_ITEMS = 1 << 20
"""Default limit on the items of a list or a table."""
_LARGEST_FLOAT, _LARGEST_INT = sys.float_info.max, (1 << 63) - 1
_SHOWN = 60

Check = Callable[[Any], Any]
"""Converts a value from a file to the type of its field; raises WrongValue."""
Make = Callable[[Any, Any], Any]
"""Converts a value from a file to a record of the given class; raises WrongValue."""


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`. `above`: `low` itself is not allowed."""

    low: float
    high: float
    above: bool = False

    def __str__(self) -> str:
        low, high = (f"{limit:,}" if isinstance(limit, int) else f"{limit:g}" for limit in (self.low, self.high))
        return f"above {low}, at most {high}" if self.above else f"of at least {low}, at most {high}"


@dataclass(frozen=True)
class Length:
    """A text, list or table with a length in this range, in characters or items."""

    low: int
    high: int = MAX_ITEMS


def shown(value: object) -> str:
    """A value for a message: on one line, and shortened if it is long."""
    if isinstance(value, list | tuple | Mapping | set) and len(value) > 12:
        return f"a {type(value).__name__} of {len(value):,} items"
    if isinstance(value, str):
        return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…")
    if isinstance(value, int) and abs(value) >= 10**40:
        return "an integer of more than 40 digits"
    try:
        text = " ".join(repr(value).split())
    except RecursionError:
        return f"a {type(value).__name__} nested too deep"
    except ValueError:  # Python writes no integer of thousands of digits
        return f"a {type(value).__name__} with an integer of thousands of digits"
    return text if len(text) <= 2 * _SHOWN else f"{text[: 2 * _SHOWN]}…"


class WrongValue(Exception):
    """What is wrong with a value, and the path to it. Each enclosing container adds its part to the path."""

    def __init__(self, value: object, allowed: str, *, message: str = "") -> None:
        self._value, self._allowed, self._message = value, allowed, message
        self.path: list[str] = []

    @property
    def message(self) -> str:
        """Written when it is needed: a union tries its kinds in turn."""
        return self._message or f" is {shown(self._value)}; it must be {self._allowed}"

    def below(self, name: object) -> WrongValue:
        """The same error, one container further out: `name` is the value's name or index in it."""
        text = str(name) if len(str(name)) <= _SHOWN else f"{str(name)[:_SHOWN]}…"
        self.path.append(text if text.isprintable() else ascii(text))
        return self

    def as_config_error(self, where: str, *, of_record: bool = False) -> ConfigError:
        """The error for the user: the path from `where` (a record's own fields stand alone), and what is wrong."""
        path = "".join(name if name.startswith("[") else f".{name}" for name in reversed(self.path))
        if of_record and path:
            where, path = "", path.lstrip(".")
        elif of_record and self.message.startswith(": "):
            return ConfigError(self.message[2:])
        return ConfigError(f"{where}{path}{self.message}")


@cache
def compiled(kind: Any, make: Make) -> Check:
    """The check of a type; `make` makes the records inside it."""
    limits: tuple[Any, ...] = ()
    if get_origin(kind) is Annotated:
        kind, *found = get_args(kind)
        limits = tuple(limit for limit in found if isinstance(limit, Between | Length))
    origin, arguments = get_origin(kind), get_args(kind)
    limit = limits[0] if limits else None
    if kind is Any:
        return lambda value: value
    if kind is int:
        return _number(int, limit or Between(-_LARGEST_INT, _LARGEST_INT))
    if kind is float:
        return _number(float, limit or Between(-_LARGEST_FLOAT, _LARGEST_FLOAT))
    if kind is str:
        return _text(limit or Length(0, MAX_TEXT))
    if origin is Literal:
        return _one_of(arguments)
    if origin is Union or origin is types.UnionType:
        return _union(arguments, make)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _list(compiled(arguments[0], make), limit or Length(0))
    if origin is tuple:
        return _fixed([compiled(argument, make) for argument in arguments])
    if origin in (dict, Mapping):
        return _table(compiled(arguments[1], make), limit or Length(0))
    if kind in (None, types.NoneType):
        return _one_of((None,))
    if isinstance(kind, type) and is_dataclass(kind):
        return lambda value: value if isinstance(value, kind) else make(kind, value)
    return _instance(kind if isinstance(kind, type) else object)


def _number(kind: Any, limit: Between) -> Check:
    low, high, above = limit.low, limit.high, limit.above
    abstract: Any = Integral if kind is int else Real
    word = "an integer" if kind is int else "a number"
    unlimited = high in (_LARGEST_INT, _LARGEST_FLOAT) and low < 0
    allowed = word if unlimited else f"{word} {limit}"

    def check(value: Any) -> Any:
        if type(value) is not kind:
            if not isinstance(value, abstract) or isinstance(value, bool):
                raise WrongValue(value, allowed)
            if type(value) is not int:
                value = kind(value)
        if low <= value <= high and not (above and value == low):  # NaN compares as False
            return value
        raise WrongValue(value, allowed)

    return check


def _text(limit: Length) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, str) or "\0" in value:
            raise WrongValue(value, "a text")
        if not limit.low <= len(value) <= limit.high:
            raise WrongValue(value, f"a text of {limit.low} to {limit.high:,} characters")
        return value

    return check


def _one_of(allowed: tuple[Any, ...]) -> Check:
    def check(value: Any) -> Any:
        for one in allowed:
            if type(one) is type(value) and one == value:
                return value
        raise WrongValue(value, " or ".join(map(repr, allowed)))

    return check


def _union(kinds: tuple[Any, ...], make: Make) -> Check:
    """The first kind that accepts the value; else the error of the last kind that is not None."""
    checks = [compiled(kind, make) for kind in kinds]
    is_none = [kind in (None, types.NoneType) for kind in kinds]

    def check(value: Any) -> Any:
        last: WrongValue | None = None
        for one, none in zip(checks, is_none, strict=True):
            try:
                return one(value)
            except WrongValue as error:
                last = error if last is None or not none else last
        assert last is not None
        raise last

    return check


def _list(item: Check, limit: Length) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise WrongValue(value, "a list")
        if not limit.low <= len(value) <= limit.high:
            raise WrongValue(value, f"a list of {limit.low} to {limit.high:,} items")
        made = []
        for one in value:
            try:
                made.append(item(one))
            except WrongValue as error:
                raise error.below(f"[{len(made)}]") from None
        return tuple(made)

    return check


def _fixed(items: list[Check]) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, list | tuple) or len(value) != len(items):
            raise WrongValue(value, f"a list of {len(items)} items")
        made = []
        for item, one in zip(items, value, strict=True):
            try:
                made.append(item(one))
            except WrongValue as error:
                raise error.below(f"[{len(made)}]") from None
        return tuple(made)

    return check


def _table(item: Check, limit: Length) -> Check:
    name_of = _text(Length(0, 4096))

    def check(value: Any) -> Any:
        if not isinstance(value, Mapping) or not limit.low <= len(value) <= limit.high:
            raise WrongValue(value, "a table of names and values")
        made = {}
        for name, one in value.items():
            try:
                made[name_of(name)] = item(one)
            except WrongValue as error:
                raise error.below(name) from None
        return made

    return check


def _instance(kind: type) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            raise WrongValue(value, f"a {kind.__name__}")
        return value

    return check
