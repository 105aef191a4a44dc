"""Sizes on the command line."""

from __future__ import annotations

import re
from typing import Any

import click

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class _Bytes(click.ParamType):
    """A size such as 300MB, 1.5GB or 512MiB, in bytes."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", value.strip(), re.IGNORECASE)
        if found is None or found[2].upper() not in _UNITS:
            self.fail(f"{value!r} is no size such as 300MB, 1.5GB or 512MiB", param, ctx)
        return int(float(found[1]) * _UNITS[found[2].upper()])


BYTES = _Bytes()
