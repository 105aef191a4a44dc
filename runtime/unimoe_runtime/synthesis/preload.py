"""Loads the graphs that every request needs in the background, while the first request is prepared."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Event, Thread, main_thread

from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.bundle.reader import Bundle, trunk_name
from unimoe_runtime.codec.bundle_codec import DECODER
from unimoe_runtime.errors import UnimoeError


def always_used(bundle: Bundle) -> list[str]:
    """Graphs that every request runs, in the order of their first use. Experts are not among them."""
    trunks = [trunk_name(layer) for layer in range(bundle.model.num_layers)]
    return [*trunks, "head", *[DECODER] * (bundle.codec is not None)]


class Preload:
    """Loads graphs one after another in its own thread; their hashes are checked as they are loaded.

    A graph that cannot be loaded ends it silently: the caller that runs that graph gets the error. At the program's end
    it stops after the current graph, because a thread that is killed within the engine would abort the process.
    """

    def __init__(self, backend: Backend, graphs: Iterable[str]) -> None:
        self._stop = Event()
        self._thread = Thread(target=self._run, args=(backend, list(graphs)), name="preload")
        self._thread.start()

    def close(self) -> None:
        """Stop after the current graph."""
        self._stop.set()
        self._thread.join()

    def _run(self, backend: Backend, graphs: list[str]) -> None:
        for graph in graphs:
            if self._stop.is_set() or not main_thread().is_alive():
                return
            try:
                backend.load([graph])
            except UnimoeError:
                return
