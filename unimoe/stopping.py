"""Stops long work at Ctrl-C, SIGTERM or SIGHUP at a point where its state is consistent."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_S = 1.0


class Stopped(KeyboardInterrupt):
    """A signal that stops the current work as Ctrl-C does. `where` says how far the work came."""

    def __init__(self, number: int, where: str = "") -> None:
        super().__init__(where)
        self.number, self.where = number, where


class StopRequest:
    """Whether a signal arrived. Check it between two steps, save, then call `end`."""

    def __init__(self) -> None:
        self.number, self.since = 0, 0.0

    def __bool__(self) -> bool:
        return bool(self.number)

    def end(self, where: str) -> None:
        """Raise Stopped where a signal arrived. `where` says what was saved."""
        if self.number:
            raise Stopped(self.number, where)


@contextmanager
def starting_processes() -> Iterator[None]:
    """Processes that start in the block ignore Ctrl-C: it reaches all processes of a terminal, and this one ends them.

    Without this, Ctrl-C during their imports would make each print a traceback.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def kept_when_stopped(where: Callable[[], str]) -> Iterator[None]:
    """Add to a signal that stops the block the message of what is kept."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Stopped(getattr(stop, "number", signal.SIGINT), where()) from None


@contextmanager
def stop_between_steps() -> Iterator[StopRequest]:
    """Hold signals back until the caller checks. A second one, a moment later, stops at once. Other threads hold none
    back."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        if not request:
            request.number, request.since = number, time.monotonic()
        elif time.monotonic() - request.since > _AGAIN_S:  # `timeout` sends a signal twice at once
            raise Stopped(number, "ended at once: what was not saved is lost")

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
