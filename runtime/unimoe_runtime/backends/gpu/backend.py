"""A bundle's graphs on a GPU: the backend over any engine of `device.Engines`, and an utterance's passes on it.

The host sees routing weights and logits. Everything else stays on the device, at addresses that do not change from
step to step. A utterance borrows a workspace (caches of one capacity, a decode pass with its captured graphs) and
gives it back, so the next one of its size finds everything captured.

B rows · T positions · N = B·T tokens · S cache capacity · H key/value heads · D head dimension · C hidden
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.gpu.device import Buffer, Device, Engines, Pool, address_of
from unimoe_runtime.backends.gpu.passes import DevicePass, Tally
from unimoe_runtime.backends.protocol import Array, CachedPositions, Forward, RowCounts, StepInputs
from unimoe_runtime.backends.trunk_form import TrunkForm
from unimoe_runtime.bundle.engine_sets import EngineSet
from unimoe_runtime.bundle.reader import Bundle, language_model_graphs
from unimoe_runtime.expert_cache.cache import ExpertCacheStats

Floats = NDArray[np.float32]


# Far apart: each has graphs of its own to be captured, and a row that is not used costs a GPU next to nothing.
_ROW_COUNTS = (1, 2, 4, 8, 16, 32, 64)


class Workspace:
    """Caches of one capacity for a number of rows, and the decode pass over them."""

    def __init__(self, backend: DeviceBackend, num_rows: int, capacity: int) -> None:
        model, device, pool = backend.bundle.model, backend.device, backend.pool
        self.num_rows, self.capacity = num_rows, capacity
        self.form = TrunkForm.of(backend.bundle)
        shape = self.form.cache_shape(num_rows, capacity)
        self.caches = [(pool.take(shape, np.float32), pool.take(shape, np.float32)) for _ in range(model.num_layers)]
        self.decode = DevicePass(device, pool, backend.engines, self.form, self.caches, num_rows, 1, backend.tally)


class Loan:
    """What a forward has of a backend: its workspace, and the passes of its prompt. Ends with the forward."""

    def __init__(self, backend: DeviceBackend) -> None:
        self._backend = backend
        self.workspace: Workspace | None = None
        self.prompt: list[DevicePass] = []

    def drop_prompt(self) -> None:
        if self.prompt:
            self._backend.device.synchronize()
            for one in self.prompt:
                one.close()
            self.prompt = []


class DeviceBackend:
    """Backend over a device and engines for it; both are closed with it. `name` is the one it was opened by;
    `engine_set` is there where the engines come from one.

    Calls are put on the one stream by one thread at a time; waiting is done outside of that, so that a codec's chunk
    in one thread holds up a step in another no longer than the device takes for it.
    """

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
        """Graphs that run call by call because they could not be captured; it costs time, not correctness."""
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
                for cache in pair:  # a masked slot counts for nothing, unless it holds a NaN
                    self.device.clear(cache.address, cache.num_bytes)
            return workspace

    def give_back(self, workspace: Workspace) -> None:
        with self.guard:
            self._idle[workspace.num_rows, workspace.capacity].append(workspace)

    def lend(self) -> Loan:
        loan = Loan(self)
        with self.guard:
            self._loans.add(loan)
        return loan

    def end(self, loan: Loan) -> None:
        with self.guard:
            if loan not in self._loans:  # it ended before, at the latest when the backend was closed
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


class DeviceForward:
    """Forward on a device: one utterance's passes.

    A pass over several positions, the prompt's, goes in chunks of what the engines take at most; layer by layer, all
    chunks in order. An expert runs on all tokens of a chunk where one picked it (the others' weights are 0): a GPU
    reads the expert's weights once whatever the number of rows, and a gather would be one more call and a copy.
    """

    def __init__(self, backend: DeviceBackend, num_rows: int) -> None:
        self._backend, self._num_rows = backend, num_rows
        self._max_positions = backend.engines.max_positions(num_rows)
        self._loan = backend.lend()
        self._passes: list[DevicePass] = []
        self._length = 0
        self._side = 0
        model = backend.bundle.model
        self._weights_NE = np.zeros((0, model.num_dynamic_experts), np.float32)
        self._router_logits_NR = np.zeros((0, model.num_router_rows), np.float32)

    def begin(self, inputs: StepInputs) -> None:
        length = inputs.mask_B1TS.shape[2]
        with self._backend.guard:
            # Not the mask's S, which grows by buckets of its own: the engines' need not be multiples of those.
            if inputs.mask_B1TS.shape[0] != self._num_rows:
                self.resize(inputs.mask_B1TS.shape[0], 0)
            workspace = self._grown(int(inputs.write_index_B.max()) + length)
            if length == 1:
                self._loan.drop_prompt()
                self._passes = [workspace.decode]
            elif length != self._length or not self._loan.prompt:
                self._loan.drop_prompt()
                self._passes = self._loan.prompt = self._prompt_passes(workspace, length)
            else:
                self._backend.device.synchronize()  # the last pass's inputs have been taken
                self._passes = self._loan.prompt
            self._length = length
            start = 0
            for one in self._passes:
                one.write(inputs, start)
                start += one.length
        self._side = 0

    def trunk(self, layer: int) -> Floats:
        passes = self._current()
        with self._backend.guard:
            for one in passes:
                one.trunk(layer)
        for one in passes:
            one.wait()
        self._side = (layer + 1) % 2
        if self._length == 1:
            return passes[0].weights_NE
        self._weights_NE = self._joined([one.weights_NE for one in passes])
        self._router_logits_NR = self._joined([one.router_logits_NR for one in passes])
        return self._weights_NE

    def router_logits(self) -> Floats:
        return self._passes[0].router_logits_NR if self._length == 1 else self._router_logits_NR

    def expert(self, layer: int, expert: int, weight_N1: Floats) -> None:
        passes = self._current()
        with self._backend.guard:
            if self._length == 1:
                passes[0].expert(layer, expert, weight_N1)
                return
            weight_BT1 = weight_N1.reshape(self._num_rows, self._length, 1)
            start = 0
            for one in passes:
                part = weight_BT1[:, start : start + one.length].reshape(-1, 1)
                start += one.length
                if part.any():
                    one.expert(layer, expert, part)

    def hidden(self) -> Floats:
        passes, parts = self._current(), []
        device = self._backend.device
        with self._backend.guard:
            for one in passes:
                buffer = one.hidden_NC[self._side]
                part = np.empty(buffer.shape, np.float32)
                device.copy(address_of(part), buffer.address, buffer.num_bytes)
                parts.append(part)
            device.synchronize()
        return self._joined(parts)

    def head(self, tokens_M: NDArray[np.int64]) -> Floats:
        passes = self._current()
        if self._length == 1:
            with self._backend.guard:
                passes[0].head()
            passes[0].wait()
            return passes[0].logits_NKV[tokens_M]
        hidden_MC, most = self.hidden()[tokens_M], self._backend.engines.max_tokens
        parts = [
            self._backend.run("head", {"hidden_NC": hidden_MC[begin : begin + most]})["logits_NKV"]
            for begin in range(0, max(1, len(hidden_MC)), most)
        ]
        return np.concatenate(parts)

    def snapshot(self, num_positions: int) -> CachedPositions:
        backend, caches = self._backend, self._workspace().caches
        layers = []
        with backend.guard:
            for pair in caches:
                kept = []
                for cache in pair:
                    array_HPD = np.empty((cache.shape[1], num_positions, cache.shape[3]), np.float32)
                    pitch, width = _slots(cache, cache.shape[2]), _slots(cache, num_positions)
                    backend.device.copy_rows(address_of(array_HPD), width, cache.address, pitch, width, cache.shape[1])
                    kept.append(array_HPD)
                layers.append((kept[0], kept[1]))
            backend.device.synchronize()
        return CachedPositions(layers=tuple(layers))

    def restore(self, cached: CachedPositions, capacity: int) -> None:
        backend = self._backend
        with backend.guard:
            workspace = self._grown(cached.num_positions)
            held = []
            for pair, kept in zip(workspace.caches, cached.layers, strict=True):
                for cache, kept_HPD in zip(pair, kept, strict=True):
                    array = np.ascontiguousarray(kept_HPD, np.float32)
                    held.append(array)  # until it has been copied
                    pitch, width = _slots(cache, cache.shape[2]), _slots(cache, cached.num_positions)
                    for row in range(cache.shape[0]):
                        target = cache.address + row * cache.shape[1] * pitch
                        backend.device.copy_rows(target, pitch, address_of(array), width, width, cache.shape[1])
            backend.device.synchronize()

    def resize(self, num_rows: int, capacity: int) -> None:
        """As in the protocol, but a capacity is never made smaller: captured graphs are used again."""
        backend = self._backend
        self._max_positions = backend.engines.max_positions(num_rows)
        with backend.guard:
            held = self._loan.workspace
            self._num_rows = num_rows
            self._replace(max(capacity, 1 if held is None else held.capacity))
            self._passes = []

    def copy_rows(self, source: Forward, source_row: int, row: int, num_rows: int, num_positions: int) -> None:
        assert isinstance(source, DeviceForward)
        backend = self._backend
        with backend.guard:
            target = self._grown(num_positions)
            for pairs in zip(source._workspace().caches, target.caches, strict=True):
                for from_, to in zip(*pairs, strict=True):
                    heads, width = from_.shape[1], _slots(from_, num_positions)
                    from_pitch, pitch = _slots(from_, from_.shape[2]), _slots(to, to.shape[2])
                    backend.device.copy_rows(
                        to.address + row * heads * pitch, pitch,
                        from_.address + source_row * heads * from_pitch, from_pitch, width, num_rows * heads,
                    )  # fmt: skip

    def close(self) -> None:
        self._backend.end(self._loan)

    def _current(self) -> list[DevicePass]:
        if not self._passes:
            raise RuntimeError("begin() comes before a pass over the layers")
        return self._passes

    def _workspace(self) -> Workspace:
        if self._loan.workspace is None:
            raise RuntimeError("begin() or restore() comes before its caches are asked for")
        return self._loan.workspace

    def _grown(self, num_slots: int) -> Workspace:
        """The workspace; a larger one with what the caches held, where they do not have so many slots."""
        old = self._loan.workspace
        return old if old is not None and num_slots <= old.capacity else self._replace(num_slots)

    def _replace(self, num_slots: int) -> Workspace:
        """A workspace of the present number of rows with what the caches held, in place of the one there is."""
        backend, old = self._backend, self._loan.workspace
        capacity = backend.engines.capacity(num_slots)
        if old is not None and (old.num_rows, old.capacity) == (self._num_rows, capacity):
            return old
        new = backend.borrow(self._num_rows, capacity)
        if old is not None:
            for pairs in zip(old.caches, new.caches, strict=True):
                for source, target in zip(*pairs, strict=True):
                    width, pitch = _slots(source, old.capacity), _slots(target, new.capacity)
                    height = min(source.shape[0], target.shape[0]) * source.shape[1]
                    backend.device.copy_rows(target.address, pitch, source.address, width, width, height)
            self._loan.drop_prompt()
            backend.give_back(old)
        self._loan.workspace = new
        return new

    def _prompt_passes(self, workspace: Workspace, length: int) -> list[DevicePass]:
        backend, most = self._backend, self._max_positions
        return [
            DevicePass(
                backend.device, backend.pool, backend.engines, workspace.form, workspace.caches,
                self._num_rows, min(most, length - start), None,
            )
            for start in range(0, length, most)
        ]  # fmt: skip

    def _joined(self, parts_NX: list[Floats]) -> Floats:
        """Chunks' values [B · chunk, X] as one array [B · T, X]; a copy."""
        width = parts_NX[0].shape[1]
        parts = [part.reshape(self._num_rows, -1, width) if part.size else part for part in parts_NX]
        if not width:
            return np.zeros((self._num_rows * self._length, 0), np.float32)
        return np.concatenate(parts, axis=1).reshape(-1, width)


def _slots(cache: Buffer, count: int) -> int:
    """Bytes of so many of a head's slots."""
    return count * cache.shape[3] * cache.dtype.itemsize
