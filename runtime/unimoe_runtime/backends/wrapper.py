"""A backend around another one, for code that observes or changes single calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from unimoe_runtime.backends.host_forward import HostForward
from unimoe_runtime.backends.protocol import Array, Backend, Forward, RowCounts
from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.expert_cache.statistics import ExpertCacheStats


class WrappedBackend:
    """A Backend that passes every call on to another one. A subclass overrides the methods that differ.

    `by_graph`: passes over the layers call this object's own `run` for every graph, with host arrays, so that a
    subclass sees all of them.
    """

    name: str
    bundle: Bundle
    on_host: bool
    lanes: int

    def __init__(self, backend: Backend, *, by_graph: bool = False) -> None:
        self.name, self.bundle, self.backend = backend.name, backend.bundle, backend
        self.on_host, self.lanes = backend.on_host, backend.lanes
        self._by_graph = by_graph

    @property
    def row_counts(self) -> RowCounts:
        return self.backend.row_counts

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self.backend.run(graph, inputs)

    def start(self, num_rows: int) -> Forward:
        return HostForward(self, num_rows) if self._by_graph else self.backend.start(num_rows)

    def load(self, graphs: Iterable[str] | None = None) -> None:
        self.backend.load(graphs)

    def residency(self) -> ExpertCacheStats | None:
        return self.backend.residency()

    def close(self) -> None:
        self.backend.close()
