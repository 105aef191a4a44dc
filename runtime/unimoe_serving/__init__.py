"""The server: HTTP in OpenAI's form, WebSocket, Wyoming, a page and metrics over one or more bundles.

    from unimoe_serving import ServerConfig, create_app, run_server

It runs on Starlette and uvicorn: Starlette has routing, WebSockets and forms, and only one dependency.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unimoe_serving.app import create_app
    from unimoe_serving.config import ServerConfig, ServerLimits
    from unimoe_serving.server import run_server

_MODULE_OF = {"create_app": "app", "ServerConfig": "config", "ServerLimits": "config", "run_server": "server"}

__all__ = ["ServerConfig", "ServerLimits", "create_app", "run_server"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
