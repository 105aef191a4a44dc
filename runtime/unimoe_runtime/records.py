"""Records: frozen dataclasses whose fields say which values they take, and the one check of all that comes from files.

    @dataclass(frozen=True, kw_only=True)
    class Codec(JsonRecord):
        kind: str
        hop_samples: Annotated[int, Between(1, 1 << 20)]
        strides: Annotated[tuple[Annotated[int, Between(2, 64)], ...], Length(1, 8)] = (2,)

A record checks itself when it is made, from a file (`from_dict`) or by a caller. Types are those of JSON: bool, int,
float (an integer may stand for one), str, Literal, Any, a union, tuple, Mapping[str, …], and other records. A number is
always finite. Errors are a ConfigError, one line with the field's path, its value and what it may be.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from numbers import Integral, Real
from typing import Annotated, Any, Literal, Self, Union, cast, get_args, get_origin, get_type_hints

from unimoe_runtime.errors import ConfigError

MAX_TEXT = 1 << 20
"""Characters that a text may have, where its field does not say otherwise."""
MAX_ITEMS = 1 << 20
"""Items that a list or a table may have, where its field does not say otherwise."""
_LARGEST_FLOAT, _LARGEST_INT = sys.float_info.max, (1 << 63) - 1
_SHOWN = 60

Check = Callable[[Any], Any]
"""Takes a value from a file, gives it as its field has it; raises _Wrong."""


def require(ok: bool, field: str, value: object, allowed: str) -> None:
    """Raise ConfigError where a condition does not hold: "FIELD is VALUE; it must be ALLOWED"."""
    if not ok:
        raise ConfigError(f"{field} is {shown(value)}; it must be {allowed}")


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
    """A text, list or table with so many characters or items."""

    low: int
    high: int = MAX_ITEMS


class JsonRecord:
    """Base of records. A subclass that compares fields with one another overrides `check_together`."""

    def __post_init__(self) -> None:
        for name, check in _checks(cast(Hashable, type(self))).items():
            try:
                object.__setattr__(self, name, check(getattr(self, name)))
            except _Wrong as error:
                raise error.told(name) from None
        self.check_together()

    def check_together(self) -> None:
        """Raise ConfigError where fields that are sound by themselves contradict each other."""

    @classmethod
    def from_dict(cls, data: Any, where: str = "", *, ignore_unknown: bool = False) -> Self:
        """A record of a JSON object. `where`: its path, for messages. Raises ConfigError."""
        try:
            record: Self = _make(cls, data, ignore_unknown)
            return record
        except _Wrong as error:
            raise error.told(where or cls.__name__, of_record=not where) from None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]


def check_value(value: Any, kind: Any, where: str) -> Any:
    """A value from a file as `kind` has it: lists become tuples, objects records. Raises ConfigError."""
    try:
        return _compiled(kind)(value)
    except _Wrong as error:
        raise error.told(where) from None


def shown(value: object) -> str:
    """A value for a message: on one line, and not all of a long one."""
    if isinstance(value, list | tuple | Mapping | set) and len(value) > 12:
        return f"a {type(value).__name__} of {len(value):,} items"
    if isinstance(value, str):
        return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…")
    if isinstance(value, int) and abs(value) >= 10**40:
        return "an integer of more than 40 digits"
    try:
        text = repr(value)
    except RecursionError:
        return f"a {type(value).__name__} nested too deep"
    return text if len(text) <= 2 * _SHOWN else f"{text[: 2 * _SHOWN]}…"


class _Wrong(Exception):
    """What is wrong with a value, and the path to it, which each container on the way out adds its part to."""

    def __init__(self, value: object, allowed: str, *, message: str = "") -> None:
        self.message = message or f" is {shown(value)}; it must be {allowed}"
        self.path: list[str] = []

    def below(self, name: object) -> _Wrong:
        text = str(name) if len(str(name)) <= _SHOWN else f"{str(name)[:_SHOWN]}…"
        self.path.append(text if text.isprintable() else ascii(text))
        return self

    def told(self, where: str, *, of_record: bool = False) -> ConfigError:
        path = "".join(name if name.startswith("[") else f".{name}" for name in reversed(self.path))
        if of_record and path:
            where, path = "", path.lstrip(".")
        elif of_record and self.message.startswith(": "):
            return ConfigError(self.message[2:])
        return ConfigError(f"{where}{path}{self.message}")


def _plain(value: Any) -> Any:
    if isinstance(value, JsonRecord):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


@cache
def _fields(cls: Hashable) -> dict[str, Field[Any]]:
    return {field.name: field for field in fields(cast(Any, cls)) if field.init and not field.name.startswith("_")}


@cache
def _checks(cls: Any) -> dict[str, Check]:
    hints = get_type_hints(cls, include_extras=True)
    return {name: _compiled(hints[name]) for name in _fields(cls)}


def _make(cls: Any, data: Any, ignore_unknown: bool = False) -> Any:
    if not isinstance(data, Mapping):
        raise _Wrong(data, "an object of fields")
    known, checks = _fields(cls), _checks(cls)
    values: dict[str, Any] = {}
    for name, value in data.items():
        check = checks.get(name)
        if check is None:
            if ignore_unknown:
                continue
            message = f" does not know the field {shown(name)}; known: {', '.join(sorted(known))}"
            raise _Wrong(None, "", message=message)
        try:
            values[name] = check(value)
        except _Wrong as error:
            raise error.below(name) from None
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise _Wrong(None, "", message=f": the field {name!r} is missing")
    try:
        if not issubclass(cls, JsonRecord) or cls.__post_init__ is not JsonRecord.__post_init__:
            return cls(**values)
        record = object.__new__(cls)  # not through __post_init__, which would check everything once more
        for name, field in known.items():
            if name not in values:
                values[name] = _default(field)
        for name, value in values.items():
            object.__setattr__(record, name, value)
        record.check_together()
        return record
    except ConfigError as error:
        raise _Wrong(None, "", message=f": {error}") from None


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


@cache
def _compiled(kind: Any) -> Check:
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
        return _union(arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _list(_compiled(arguments[0]), limit or Length(0))
    if origin is tuple:
        return _fixed([_compiled(argument) for argument in arguments])
    if origin in (dict, Mapping):
        return _table(_compiled(arguments[1]), limit or Length(0))
    if kind in (None, types.NoneType):
        return _one_of((None,))
    if isinstance(kind, type) and is_dataclass(kind):
        return lambda value: value if isinstance(value, kind) else _make(kind, value)
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
                raise _Wrong(value, allowed)
            if type(value) is not int:
                value = kind(value)
        if low <= value <= high and not (above and value == low):  # what is no number compares as False
            return value
        raise _Wrong(value, allowed)

    return check


def _text(limit: Length) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, str) or "\0" in value:
            raise _Wrong(value, "a text")
        if not limit.low <= len(value) <= limit.high:
            raise _Wrong(value, f"a text of {limit.low} to {limit.high:,} characters")
        return value

    return check


def _one_of(allowed: tuple[Any, ...]) -> Check:
    def check(value: Any) -> Any:
        for one in allowed:
            if type(one) is type(value) and one == value:
                return value
        raise _Wrong(value, " or ".join(map(repr, allowed)))

    return check


def _union(kinds: tuple[Any, ...]) -> Check:
    """The first kind that takes the value; the error of the last that is not None."""
    checks = [_compiled(kind) for kind in kinds]
    telling = [kind not in (None, types.NoneType) for kind in kinds]

    def check(value: Any) -> Any:
        told: _Wrong | None = None
        for one, tells in zip(checks, telling, strict=True):
            try:
                return one(value)
            except _Wrong as error:
                told = error if tells or told is None else told
        assert told is not None
        raise told

    return check


def _list(item: Check, limit: Length) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise _Wrong(value, "a list")
        if not limit.low <= len(value) <= limit.high:
            raise _Wrong(value, f"a list of {limit.low} to {limit.high:,} items")
        made = []
        for one in value:
            try:
                made.append(item(one))
            except _Wrong as error:
                raise error.below(f"[{len(made)}]") from None
        return tuple(made)

    return check


def _fixed(items: list[Check]) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, list | tuple) or len(value) != len(items):
            raise _Wrong(value, f"a list of {len(items)} items")
        made = []
        for item, one in zip(items, value, strict=True):
            try:
                made.append(item(one))
            except _Wrong as error:
                raise error.below(f"[{len(made)}]") from None
        return tuple(made)

    return check


def _table(item: Check, limit: Length) -> Check:
    name_of = _text(Length(0, 4096))

    def check(value: Any) -> Any:
        if not isinstance(value, Mapping) or not limit.low <= len(value) <= limit.high:
            raise _Wrong(value, "a table of names and values")
        made = {}
        for name, one in value.items():
            try:
                made[name_of(name)] = item(one)
            except _Wrong as error:
                raise error.below(name) from None
        return made

    return check


def _instance(kind: type) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            raise _Wrong(value, f"a {kind.__name__}")
        return value

    return check
