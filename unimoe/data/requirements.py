"""Programs and packages that a task needs, all checked before its work begins."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable

from unimoe_runtime.errors import OutputError
from unimoe_runtime.install import install_command

_BETWEEN = "; "

Check = Callable[[], object]
"""Raises OutputError, which says what to install, where something is missing."""


def require_all(checks: Iterable[Check]) -> None:
    """Raise OutputError, one line with everything that is missing, where one or more of the checks fail."""
    missing: dict[str, None] = {}
    for check in checks:
        try:
            check()
        except OutputError as error:
            missing |= dict.fromkeys(str(error).split(_BETWEEN))  # a check may name several things
    if missing:
        raise OutputError(_BETWEEN.join(missing))


def require_module(name: str, extra: str) -> None:
    """Raise OutputError where a module of one of our extras is not installed."""
    if importlib.util.find_spec(name) is None:
        raise OutputError(f"{name} is not installed: `{install_command(extra)}`")


def require_pocketsphinx() -> None:
    """Raise OutputError where pocketsphinx is not installed."""
    require_module("pocketsphinx", "eval")
