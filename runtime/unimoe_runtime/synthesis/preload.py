"""Loading in the background what every request needs, while the first one is prepared."""

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
    """Loads graphs one after another in a thread of its own; their hashes are checked as they are loaded.

    A graph that cannot be loaded ends it without a word: whoever runs that graph is told. It ends with the program as
    well, after the graph that is being loaded: a thread that is cut off within the engine would abort the process.
    """

    def __init__(self, backend: Backend, graphs: Iterable[str]) -> None:
        self._stop = Event()
        self._thread = Thread(target=self._run, args=(backend, list(graphs)), name="preload")
        self._thread.start()

    def close(self) -> None:
        """Stop after the graph that is being loaded."""
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
