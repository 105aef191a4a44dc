"""Ending long work by Ctrl-C, SIGTERM or SIGHUP where its state is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal that ends what is going on as Ctrl-C does. `where` says how far it came."""

    def __init__(self, number: int, where: str = "") -> None:
        super().__init__(where)
        self.number, self.where = number, where


class StopRequest:
    """Whether a signal came. Ask between two steps, save, then call `end`."""

    def __init__(self) -> None:
        self.number = 0

    def __bool__(self) -> bool:
        return bool(self.number)

    def end(self, where: str) -> None:
        """Raise Stopped where a signal came; `where` says what was saved."""
        if self.number:
            raise Stopped(self.number, where)


@contextmanager
def kept_when_stopped(where: Callable[[], str]) -> Iterator[None]:
    """Let a signal that ends the block say what it leaves."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Stopped(getattr(stop, "number", signal.SIGINT), where()) from None


@contextmanager
def stop_between_steps() -> Iterator[StopRequest]:
    """Hold signals back until they are asked for; a second one ends at once. In other threads nothing is held back."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        if request:
            raise Stopped(number, "ended at once: what was not saved is lost")
        request.number = number

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
