"""Admission: a limited number of streams decode at once, and a limited number wait in order of arrival."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from unimoe_serving.config import ServerLimits
from unimoe_serving.errors import RequestError, shutting_down

_SMOOTHING = 0.2
_LONGEST_RETRY_S = 60.0


class Admission:
    """Slots for streams. Used only from the event loop.

    `active` streams hold a slot and `waiting` requests want one. `drain` lets those continue and refuses new ones. A
    conversation whose text was accepted before continues as well, sentence by sentence.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.max_streams)
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._mean_s = 1.0
        self.active = self.waiting = self._speaking = 0

    @contextmanager
    def conversation(self) -> Iterator[bool]:
        """While a conversation speaks accepted text. Yields whether its streams may begin after `drain`."""
        self._speaking += 1
        self._idle.clear()
        try:
            yield not self._draining
        finally:
            self._speaking -= 1
            self._note_idle()

    @asynccontextmanager
    async def slot(self, *, accepted: bool = False) -> AsyncIterator[None]:
        """Hold a slot. Raises RequestError: 429 if the queue is full, 503 after too long a wait or while draining,
        unless the text was `accepted` before."""
        if not accepted:
            self.require_open()
        if self._slots.locked() and self.waiting >= self._limits.max_queue:
            raise RequestError(
                f"{self.active} streams are active and {self.waiting} requests wait, which is the limit",
                status=429, code="queue_full", retry_after_s=self._retry_after_s(),
            )  # fmt: skip
        self.waiting += 1
        self._idle.clear()
        try:
            async with asyncio.timeout(self._limits.queue_s):
                await self._slots.acquire()
        except TimeoutError:
            raise RequestError(
                f"no stream ended within {self._limits.queue_s:g} s",
                status=503, code="queue_timeout", retry_after_s=self._retry_after_s(),
            ) from None  # fmt: skip
        finally:
            self.waiting -= 1
            self._note_idle()
        self.active += 1
        self._idle.clear()
        began = time.perf_counter()
        try:
            yield
        finally:
            self._mean_s += _SMOOTHING * (time.perf_counter() - began - self._mean_s)
            self.active -= 1
            self._slots.release()
            self._note_idle()

    def require_open(self) -> None:
        """Raise RequestError 503 if the server is draining."""
        if self._draining:
            raise shutting_down(self._limits.drain_s)

    def drain(self) -> None:
        """Refuse new streams from now on."""
        self._draining = True

    @property
    def draining(self) -> bool:
        """Whether new streams are refused."""
        return self._draining

    async def wait_idle(self) -> None:
        """Return when no stream decodes, no request waits and no conversation speaks."""
        await self._idle.wait()

    def _note_idle(self) -> None:
        if not self.active and not self.waiting and not self._speaking:
            self._idle.set()

    def _retry_after_s(self) -> float:
        expected_s = self._mean_s * (self.waiting + 1) / self._limits.max_streams
        return min(max(1.0, expected_s), _LONGEST_RETRY_S)
