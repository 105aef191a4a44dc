"""Runs the application in uvicorn: listens, announces its addresses, and drains streams on SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
import uvloop

from unimoe_runtime.errors import BackendError
from unimoe_runtime.files.text import reason_of
from unimoe_serving.app import create_app
from unimoe_serving.config import ServerConfig, is_loopback, wyoming_address
from unimoe_serving.connections import BACKLOG, bounded_http
from unimoe_serving.service import Service
from unimoe_serving.web_socket import WebSocketProtocol

if TYPE_CHECKING:
    from unimoe_serving.wyoming_server import WyomingServer

logger = logging.getLogger("unimoe.serving")

_KEEP_ALIVE_S = 75  # longer than the timeout of proxies, so that they close the connection


def run_server(config: ServerConfig, *, announce: Callable[[str], None] = print, access_log: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C; a second signal ends it immediately. `announce` gets a line for each
    address and one when the server is ready.

    Raises UnimoeError if a bundle cannot be opened or an address cannot be bound.
    """
    listener = _listen(config.host, config.port)
    with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config, listener, announce, access_log))


async def _serve(
    config: ServerConfig, listener: socket.socket, announce: Callable[[str], None], access_log: bool
) -> None:
    started = time.perf_counter()
    app = create_app(config)
    service: Service = app.state.service
    server = _Server(
        uvicorn.Config(
            app,
            http=bounded_http(config.limits),
            backlog=BACKLOG,
            access_log=access_log,
            log_config=None,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=5,
            ws=WebSocketProtocol,
            ws_max_size=config.limits.max_json_bytes,
        ),
        service,
    )
    host, port = listener.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    announce(f"http://{address}:{port}: the page, and the API at /v1")
    if not is_loopback(config.host) and not config.api_key:
        announce("anyone who reaches this address may use it: give an API key, or listen on loopback")
    serving = asyncio.create_task(server.serve([listener]))
    wyoming = None
    try:
        while not service.ready and service.load_error is None and not serving.done() and not server.is_draining:
            await asyncio.sleep(0.02)
        if service.load_error is None and not serving.done():
            if config.wyoming and not server.is_draining:
                wyoming = await _start_wyoming(service, config.wyoming, announce)
            _spare_the_collector()
            if not server.is_draining:
                announce(f"ready after {time.perf_counter() - started:.1f} s")
            await server.drained()
    finally:
        if wyoming is not None:
            await wyoming.stop()
        server.should_exit = True
        await serving
    if service.load_error is not None:
        raise service.load_error


async def _start_wyoming(service: Service, uri: str, announce: Callable[[str], None]) -> WyomingServer:
    from unimoe_serving.wyoming_server import WyomingServer

    wyoming = WyomingServer(service, uri)
    await wyoming.start()
    announce(f"tcp://{uri.removeprefix('tcp://').rpartition(':')[0]}:{wyoming.port}: Wyoming")
    if not is_loopback(wyoming_address(uri)[0]):
        announce("Wyoming has no key: anyone who reaches its port may use it; open it to your network only")
    return wyoming


def _spare_the_collector() -> None:
    """Exclude everything loaded so far from garbage collection: a collection over it would stall every stream."""
    gc.collect()
    gc.freeze()


class _Server(uvicorn.Server):
    """A server that drains at the first signal: it answers 503 to new requests and ends when no stream decodes."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._signalled, self._hurried = asyncio.Event(), asyncio.Event()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._hear_signal)

    @property
    def is_draining(self) -> bool:
        """Whether a signal arrived. A service that drains is not ready, so nobody may wait for it to become so."""
        return self._signalled.is_set()

    async def drained(self) -> None:
        """Return after a signal, when all streams have ended or `drain_s` has passed."""
        await self._signalled.wait()
        idle = asyncio.create_task(self._service.admission.wait_idle())
        hurried = asyncio.create_task(self._hurried.wait())
        await asyncio.wait([idle, hurried], timeout=self._service.limits.drain_s, return_when=asyncio.FIRST_COMPLETED)
        if not idle.done():
            logger.warning("%d streams are cut off", self._service.admission.active)
            self._service.cut_off()
        for task in (idle, hurried):
            task.cancel()

    def _hear_signal(self) -> None:
        self.force_exit = self._hurried.is_set()
        if self._service.admission.draining:
            self._hurried.set()
        self._service.admission.drain()
        self._signalled.set()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError, TypeError) as error:  # the latter two for a name that no host can have
        reason = reason_of(error).partition(" (while")[0]
        raise BackendError(f"cannot listen on {host}:{port} ({reason}): choose another address or port") from None
