"""Forward on a GPU.

B rows · T positions · N = B·T tokens · S cache capacity · H key/value heads · D head dimension · C hidden
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.gpu.device import Buffer, address_of
from unimoe_runtime.backends.gpu.passes import DevicePass
from unimoe_runtime.backends.gpu.workspaces import Workspace, WorkspaceOwner
from unimoe_runtime.backends.protocol import CachedPositions, Forward, StepInputs

Floats = NDArray[np.float32]


class DeviceForward:
    """Forward on a device: one utterance's passes.

    A pass over several positions, the prefill, is split into parts of at most the engines' limit. Each layer runs all
    parts in order. An expert runs on all tokens of a part in which at least one token picked it; the other tokens have
    weight 0. A GPU reads the expert's weights once whatever the number of rows, and a gather would cost another call
    and a copy.
    """

    def __init__(self, backend: WorkspaceOwner, num_rows: int) -> None:
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
            # Not the mask's S, which grows in its own buckets; the engines' capacities need not be multiples of those.
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
                self._backend.device.synchronize()  # the last pass has read its inputs
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
        """As in the protocol, but a capacity never shrinks, so that captured graphs are reused."""
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
        """The workspace; if its caches have fewer slots than `num_slots`, a larger one with their content."""
        old = self._loan.workspace
        return old if old is not None and num_slots <= old.capacity else self._replace(num_slots)

    def _replace(self, num_slots: int) -> Workspace:
        """Replace the workspace by one for the present number of rows, with the content of its caches."""
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
            DevicePass(backend, workspace.caches, self._num_rows, min(most, length - start), None)
            for start in range(0, length, most)
        ]

    def _joined(self, parts_NX: list[Floats]) -> Floats:
        """The parts' values [B · part, X] as one array [B · T, X]; a copy."""
        width = parts_NX[0].shape[1]
        parts = [part.reshape(self._num_rows, -1, width) if part.size else part for part in parts_NX]
        if not width:
            return np.zeros((self._num_rows * self._length, 0), np.float32)
        return np.concatenate(parts, axis=1).reshape(-1, width)


def _slots(cache: Buffer, count: int) -> int:
    """Bytes of `count` slots of one head."""
    return count * cache.shape[3] * cache.dtype.itemsize
