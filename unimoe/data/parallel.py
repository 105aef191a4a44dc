"""Distributes work over several processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from unimoe.stopping import starting_processes

Spread = Callable[..., Iterator[Any]]


def _leave_signals() -> None:
    """Ctrl-C reaches all processes of a terminal: only the first one handles it, and it ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def spread(num_workers: int) -> Iterator[Spread]:
    """A function like `map` whose calls run in `num_workers` processes, a chunk at a time. Results keep their order.

    With one worker, the calls run lazily in this process.
    """
    if num_workers == 1:
        yield lambda function, work, chunk=1: map(function, work)
        return
    with starting_processes():
        pool = multiprocessing.get_context("spawn").Pool(num_workers, _leave_signals)
    with pool:

        def run(function: Callable[[Any], Any], work: Iterable[Any], chunk: int = 1) -> Iterator[Any]:
            return pool.imap(function, work, chunksize=chunk)

        yield run
