"""The ASGI application: endpoints, the guard in front of them, and the service's start and end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from unimoe_serving.config import ServerConfig
from unimoe_serving.errors import RequestError
from unimoe_serving.guard import PATH_KEY, Guard
from unimoe_serving.page import show_page
from unimoe_serving.responses import error_response
from unimoe_serving.routes import audio, status, voices
from unimoe_serving.routes.text_stream import text_stream
from unimoe_serving.service import Service, refusal

Handler = Callable[[Request, Service], Awaitable[ASGIApp | Response]]

_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/", show_page),
    ("POST", "/v1/audio/speech", audio.speech),
    ("POST", "/v1/audio/music", audio.music),
    ("GET", "/v1/audio/voices", voices.list_voices),
    ("POST", "/v1/audio/voices", voices.create_voice),
    ("DELETE", "/v1/audio/voices/{voice_id}", voices.delete_voice),
    ("GET", "/v1/models", status.list_models),
    ("GET", "/v1/models/{model}", status.one_model),
    ("GET", "/healthz", status.healthz),
    ("GET", "/readyz", status.readyz),
    ("GET", "/metrics", status.metrics),
)


def create_app(config: ServerConfig) -> Starlette:
    """The application, with its `Service` as `app.state.service`. Its bundles load after it has started."""
    service = Service(config)
    routes = [Route(path, _Endpoint(path, handler, service), methods=[method]) for method, path, handler in _ROUTES]

    async def stream_text(socket: WebSocket) -> None:
        await text_stream(socket, service)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.start_loading()
        yield
        await service.close()

    middleware = [Middleware(Guard, service=service)]
    if config.cors_origins:
        middleware.insert(  # in front, so that such a page may read the guard's refusals as well
            0,
            Middleware(
                CORSMiddleware,
                allow_origins=config.cors_origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["authorization", "content-type"],
                expose_headers=["x-sample-rate", "x-model", "retry-after"],
            ),
        )
    app = Starlette(
        routes=[*routes, WebSocketRoute("/v1/audio/stream", stream_text)],
        middleware=middleware,
        exception_handlers={HTTPException: _not_found},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # the address of a redirect would be wrong behind a proxy
    app.router.default = _nothing_there
    app.state.service = service
    return app


class _Endpoint:
    """A handler as an ASGI application: its errors become responses, and its path is recorded for metrics."""

    def __init__(self, path: str, handler: Handler, service: Service) -> None:
        self._path, self._handler, self._service = path, handler, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[PATH_KEY] = self._path
        response: Any
        try:
            response = await self._handler(Request(scope, receive), self._service)
        except Exception as error:
            response = error_response(refusal(error, self._service.metrics))
        await response(scope, receive, send)


async def _nothing_there(scope: Scope, receive: Receive, send: Send) -> None:
    """The end of a request whose path no route has."""
    if scope["type"] == "websocket":
        error = RequestError(f"there is no WebSocket {scope['path'][:200]}", status=404, code="not_found")
        await WebSocket(scope, receive, send).send_denial_response(error_response(error))
    else:
        raise HTTPException(404)


async def _not_found(request: Request, error: Exception) -> Response:
    """The response where no route matches, in OpenAI's JSON."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code != 405:
        missing = RequestError(f"there is no {request.method} {path[:200]}", status=error.status_code, code="not_found")
        return error_response(missing)
    # The router's own header has the methods of one route of a path.
    allowed = ", ".join(method for method, known, _ in _ROUTES if known == path) or (error.headers or {})["Allow"]
    wrong = RequestError(f"{path[:200]} takes {allowed}, not {request.method}", status=405, code="method_not_allowed")
    response = error_response(wrong)
    response.headers["allow"] = allowed
    return response
