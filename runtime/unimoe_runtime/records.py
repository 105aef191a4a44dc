"""Records: frozen dataclasses whose fields declare their allowed values, and the one check of all data from files.

    @dataclass(frozen=True, kw_only=True)
    class Codec(JsonRecord):
        kind: str
        hop_samples: Annotated[int, Between(1, 1 << 20)]
        strides: Annotated[tuple[Annotated[int, Between(2, 64)], ...], Length(1, 8)] = (2,)

A record checks itself when it is made, from a file (`from_dict`) or by a caller. Types are those of JSON: bool, int,
float (also given as an integer), str, Literal, Any, a union, tuple, Mapping[str, …], and other records. A number is
always finite. An error is a ConfigError, one line with the field's path, its value and the allowed values.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Any, Self, cast

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.record_checks import Between as Between
from unimoe_runtime.record_checks import Check, WrongValue, compiled
from unimoe_runtime.record_checks import Length as Length
from unimoe_runtime.record_checks import shown as shown


def require(ok: bool, field: str, value: object, allowed: str) -> None:
    """Raise ConfigError if a condition does not hold: "FIELD is VALUE; it must be ALLOWED"."""
    if not ok:
        raise ConfigError(f"{field} is {shown(value)}; it must be {allowed}")


class JsonRecord:
    """Base of records. A subclass that compares fields with one another overrides `check_together`."""

    def __post_init__(self) -> None:
        for name, check in _checks(cast(Hashable, type(self))).items():
            try:
                object.__setattr__(self, name, check(getattr(self, name)))
            except WrongValue as error:
                raise error.as_config_error(name) from None
        self.check_together()

    def check_together(self) -> None:
        """Raise ConfigError if fields that are valid by themselves contradict each other."""

    @classmethod
    def from_dict(cls, data: Any, where: str = "", *, ignore_unknown: bool = False) -> Self:
        """A record from a JSON object. `where`: its path, for messages. Raises ConfigError."""
        try:
            record: Self = _make(cls, data, ignore_unknown)
            return record
        except WrongValue as error:
            raise error.as_config_error(where or cls.__name__, of_record=not where) from None

    def to_dict(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]


def check_value(value: Any, kind: Any, where: str) -> Any:
    """Convert a value from a file to `kind`: lists become tuples, objects records. Raises ConfigError."""
    try:
        return compiled(kind, _make)(value)
    except WrongValue as error:
        raise error.as_config_error(where) from None


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
    known, checks = _fields(cls), {}
    for base in reversed(cls.__mro__):
        names = vars(sys.modules[base.__module__])
        for name, kind in inspect.get_annotations(base).items():
            if name in known:
                # Text where the module defers annotations; `typing.get_type_hints` would take five times as long.
                checks[name] = compiled(eval(kind, names, vars(base)) if isinstance(kind, str) else kind, _make)
    return {name: checks[name] for name in known}


def _make(cls: Any, data: Any, ignore_unknown: bool = False) -> Any:
    if not isinstance(data, Mapping):
        raise WrongValue(data, "an object of fields")
    known, checks = _fields(cls), _checks(cls)
    values: dict[str, Any] = {}
    for name, value in data.items():
        check = checks.get(name)
        if check is None:
            if ignore_unknown:
                continue
            message = f" does not know the field {shown(name)}; known: {', '.join(sorted(known))}"
            raise WrongValue(None, "", message=message)
        try:
            values[name] = check(value)
        except WrongValue as error:
            raise error.below(name) from None
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise WrongValue(None, "", message=f": the field {name!r} is missing")
    try:
        if not issubclass(cls, JsonRecord) or cls.__post_init__ is not JsonRecord.__post_init__:
            return cls(**values)
        record = object.__new__(cls)  # without __post_init__, which would check everything again
        for name, field in known.items():
            if name not in values:
                values[name] = _default(field)
        for name, value in values.items():
            object.__setattr__(record, name, value)
        record.check_together()
        return record
    except ConfigError as error:
        raise WrongValue(None, "", message=f": {error}") from None


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
