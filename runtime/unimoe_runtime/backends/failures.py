"""Errors of an engine's library as one line that names the graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from unimoe_runtime.errors import BackendError, UnimoeError


def engine_failure(graph: object, engine: str, error: Exception) -> UnimoeError:
    """An error of an engine's library as one line that names the graph; our own errors pass unchanged.

    `graph`: its name, or the path of its file.
    """
    if isinstance(error, UnimoeError):
        return error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return BackendError(f"{graph}: {engine} cannot run it: {lines[0][:300] if lines else type(error).__name__}")


Call = TypeVar("Call", bound=Callable[..., Any])


def naming_its_graph(method: Call) -> Call:
    """Turn what a method of `gpu.device.Engines` raises into `engine_failure`; its first argument is the graph."""

    @wraps(method)
    def call(self: Any, graph: str, *arguments: Any, **named: Any) -> Any:
        try:
            return method(self, graph, *arguments, **named)
        except Exception as error:
            raise engine_failure(graph, self.library, error) from None

    return cast(Call, call)
