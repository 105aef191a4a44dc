"""The checks before every endpoint (host name, origin, API key), and the count of responses."""

from __future__ import annotations

import asyncio
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from unimoe_serving.errors import RequestError, shutting_down
from unimoe_serving.responses import error_response
from unimoe_serving.service import Service, refusal
from unimoe_serving.unread_body import UnreadBody

PATH_KEY = "unimoe.path"
"""The key in the scope under which an endpoint stores its path's pattern, for the count."""

_OPEN_PATHS = frozenset({"/", "/healthz", "/readyz"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """ASGI middleware. It refuses

    - a Host that is not the server's: another site's page could otherwise reach a loopback server under its own name;
    - an Origin that is neither the server nor allowed, on requests that change state or open a WebSocket;
    - a request without the API key, except for the page and the health checks.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service, self._config = app, service, service.config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        counted = _Counted(scope, send, self._service)
        if scope["type"] == "websocket":
            await self._pass_on(scope, receive, counted)
            return
        unread = UnreadBody(scope, receive, counted, self._service.limits.body_s)
        try:
            await self._pass_on(scope, unread.receive, unread.send)
        except asyncio.CancelledError:
            if not self._service.admission.draining:
                raise
            # uvicorn ends what outlasts the drain, such as a body that does not come.
            if not counted.started:
                await error_response(shutting_down())(scope, receive, counted)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check(scope)
        except RequestError as error:
            response = error_response(refusal(error, self._service.metrics))
            if scope["type"] == "websocket":
                await WebSocket(scope, receive, send).send_denial_response(response)
            else:
                await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        hosts = self._config.hosts
        if hosts and _name(host) not in hosts:
            raise RequestError("the server has another name: see --allowed-host", status=421, code="wrong_host")
        origin = headers.get("origin")
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        known = origin is None or _netloc(origin) == host or {origin, "*"} & set(self._config.cors_origins)
        if changes and not known:
            raise RequestError("this origin may not call: see --cors", status=403, code="wrong_origin")
        is_preflight = scope["type"] == "http" and scope["method"] == "OPTIONS"
        if self._config.api_key and scope["path"] not in _OPEN_PATHS and not is_preflight:
            given = headers.get("authorization", "").partition(" ")[2].strip()
            if not hmac.compare_digest(given.encode(), self._config.api_key.encode()):
                raise RequestError("the API key is missing or wrong", status=401, code="invalid_api_key")


class _Counted:
    """`send` that counts the answer by path and status when it starts."""

    def __init__(self, scope: Scope, send: Send, service: Service) -> None:
        self._scope, self._send, self._service = scope, send, service
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self.started = True
            self._service.metrics.responded(self._scope.get(PATH_KEY, "other"), message["status"])
        await self._send(message)


def _netloc(origin: str) -> str:
    """Host and port of an Origin header."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _name(host: str) -> str:
    """A Host header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
