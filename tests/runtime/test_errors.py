"""The tree of exceptions: drawn as it is, each with its meaning, and whole after a process boundary."""

from __future__ import annotations

import copy
import inspect
import re

import pytest

from unimoe_runtime import errors
from unimoe_runtime.errors import ConfigError, UnimoeError

CLASSES = [
    one
    for _, one in inspect.getmembers(errors, inspect.isclass)
    if issubclass(one, UnimoeError) and one is not UnimoeError
]


def test_the_drawing_shows_all_of_them() -> None:
    drawn = re.findall(r"^    [├└]── (\w+) +\S", errors.__doc__ or "", re.MULTILINE)
    assert sorted(drawn) == sorted(one.__name__ for one in CLASSES)


@pytest.mark.parametrize("kind", CLASSES)
def test_each_has_a_meaning_and_survives_a_process_boundary(kind: type[UnimoeError]) -> None:
    assert kind.__base__ is UnimoeError or kind is ConfigError
    assert kind.__doc__ and kind.__doc__.endswith(".")
    again = copy.copy(kind("what, where, what to do"))  # by __reduce_ex__, as between processes
    assert type(again) is kind and str(again) == "what, where, what to do"


def test_a_wrong_configuration_is_also_a_wrong_value() -> None:
    with pytest.raises(ValueError, match="out of range"):
        raise ConfigError("out of range")
