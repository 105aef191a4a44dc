"""A bundle's graphs on a GPU: the backend over any engine of `device.Engines`.

The host sees routing weights and logits. Everything else stays on the device, at addresses that do not change from
step to step. A forward borrows a workspace (caches of one capacity, a decode pass with its captured graphs) and
gives it back, so that the next forward of that size reuses the captured graphs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from threading import RLock

from unimoe_runtime.backends.gpu.device import Device, Engines, Pool
from unimoe_runtime.backends.gpu.forward import DeviceForward
from unimoe_runtime.backends.gpu.passes import Tally
from unimoe_runtime.backends.gpu.workspaces import Loan, Workspace
from unimoe_runtime.backends.protocol import Array, RowCounts
from unimoe_runtime.backends.trunk_form import TrunkForm
from unimoe_runtime.bundle.engine_sets import EngineSet
from unimoe_runtime.bundle.reader import Bundle, language_model_graphs
from unimoe_runtime.expert_cache.statistics import ExpertCacheStats

# Widely spaced: each size has its own graphs to capture, and an unused row costs a GPU almost nothing.
_ROW_COUNTS = (1, 2, 4, 8, 16, 32, 64)


class DeviceBackend:
    """Backend over a device and its engines; closing it closes both. `name` is the name it was opened by;
    `engine_set` is the set that the engines come from, if any.

    One thread at a time enqueues calls on the one stream. Threads wait outside of that lock, so a codec's chunk in one
    thread delays a step in another only by its time on the device.
    """

    on_host, lanes = False, 1

    def __init__(
        self,
        name: str,
        bundle: Bundle,
        device: Device,
        pool: Pool,
        engines: Engines,
        engine_set: EngineSet | None = None,
    ) -> None:
        self.name, self.bundle, self.engine_set = name, bundle, engine_set
        self.device, self.pool, self.engines = device, pool, engines
        self.form = TrunkForm.of(bundle)
        self.guard = RLock()
        self.tally = Tally()
        self._idle: defaultdict[tuple[int, int], list[Workspace]] = defaultdict(list)
        self._workspaces: list[Workspace] = []
        self._loans: set[Loan] = set()
        self._closed = False

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        with self.guard:
            return self.engines.run(graph, inputs)

    @property
    def row_counts(self) -> RowCounts:
        most = self.engines.max_rows
        return RowCounts(sizes=tuple(sorted({size for size in _ROW_COUNTS if size < most} | {most})))

    def start(self, num_rows: int) -> DeviceForward:
        return DeviceForward(self, num_rows)

    def load(self, graphs: Iterable[str] | None = None) -> None:
        for graph in graphs or language_model_graphs(self.bundle.model):
            with self.guard:
                self.engines.load(graph)

    def residency(self) -> ExpertCacheStats | None:
        return None

    def uncaptured(self) -> tuple[str, ...]:
        """Graphs that could not be captured and run call by call; this costs time, not correctness."""
        return tuple(sorted({*self.tally.uncaptured, *self.engines.uncaptured()}))

    def borrow(self, num_rows: int, capacity: int) -> Workspace:
        """A workspace with empty caches."""
        with self.guard:
            idle = self._idle[num_rows, capacity]
            if idle:
                workspace = idle.pop()
            else:
                workspace = Workspace(self, num_rows, capacity)
                self._workspaces.append(workspace)
            for pair in workspace.caches:
                for cache in pair:  # a masked slot has no effect, unless it holds a NaN
                    self.device.clear(cache.address, cache.num_bytes)
            return workspace

    def give_back(self, workspace: Workspace) -> None:
        """Keep a workspace for the next forward of its size."""
        with self.guard:
            self._idle[workspace.num_rows, workspace.capacity].append(workspace)

    def lend(self) -> Loan:
        """Begin a loan: what a forward borrows until `end`."""
        loan = Loan(self)
        with self.guard:
            self._loans.add(loan)
        return loan

    def end(self, loan: Loan) -> None:
        """Take back all that a loan holds. A second call is harmless."""
        with self.guard:
            if loan not in self._loans:  # it has already ended, at the latest when the backend was closed
                return
            self._loans.remove(loan)
            loan.drop_prompt()
            if loan.workspace is not None:
                self.give_back(loan.workspace)

    def close(self) -> None:
        with self.guard:
            if self._closed:
                return
            self._closed = True
            self.device.synchronize()
            for loan in tuple(self._loans):
                self.end(loan)
            for workspace in self._workspaces:
                workspace.decode.close()
            self._workspaces.clear()
            self._idle.clear()
            self.engines.close()
            self.pool.close()
            self.device.close()
