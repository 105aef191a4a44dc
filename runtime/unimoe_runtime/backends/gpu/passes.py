"""The buffers of a pass on the device, at fixed addresses, and the calls bound to them, captured once and replayed.

B rows · T positions · N = B·T tokens · S cache capacity · H key/value heads · D head dimension · C hidden
R router rows · E dynamic experts · X routed experts · K codebooks · V codec vocabulary
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.gpu.device import (
    Buffer,
    Captured,
    CaptureError,
    Device,
    Engines,
    Pool,
    address_of,
    aligned,
)
from unimoe_runtime.backends.protocol import StepInputs
from unimoe_runtime.backends.trunk_form import TrunkForm
from unimoe_runtime.bundle.reader import expert_name, trunk_name

Floats = NDArray[np.float32]


class PassOwner(Protocol):
    """The parts of the backend that a pass uses."""

    device: Device
    pool: Pool
    engines: Engines
    form: TrunkForm


class Tally:
    """The captured calls, by (graph, rows, capacity), and the graphs that could not be captured."""

    def __init__(self) -> None:
        self.captures: list[tuple[str, int, int]] = []
        self.uncaptured: dict[str, str] = {}


class Block:
    """Tensors side by side in device memory and in pinned host memory, so that one copy moves them all."""

    def __init__(self, device: Device, pool: Pool, tensors: Mapping[str, tuple[tuple[int, ...], Any]]) -> None:
        self._device = device
        dtypes = {name: np.dtype(dtype) for name, (_, dtype) in tensors.items()}
        offsets, end = {}, 0
        for name, (shape, _) in tensors.items():
            offsets[name] = end
            end += aligned(max(1, math.prod(shape) * dtypes[name].itemsize))
        self.num_bytes, self.address = end, pool.take_bytes(end)
        self.memory = pool.take_pinned(end)
        self._host_address = address_of(self.memory)
        self.device = {
            name: Buffer(self.address + offsets[name], shape, dtypes[name]) for name, (shape, _) in tensors.items()
        }
        self.host: dict[str, NDArray[Any]] = {}
        for name, buffer in self.device.items():
            begin = offsets[name]
            self.host[name] = self.memory[begin : begin + buffer.num_bytes].view(buffer.dtype).reshape(buffer.shape)

    def upload(self) -> None:
        """Enqueue the copy of all tensors to the device."""
        self._device.copy(self.address, self._host_address, self.num_bytes)

    def download(self) -> None:
        """Enqueue the copy of all tensors to the host."""
        self._device.copy(self._host_address, self.address, self.num_bytes)

    def upload_one(self, name: str) -> None:
        """Enqueue the copy of one tensor to the device."""
        buffer = self.device[name]
        offset = buffer.address - self.address
        self._device.copy(buffer.address, self._host_address + offset, buffer.num_bytes)


class Replayed:
    """A sequence of calls: the first time it runs call by call, the second time it is captured, then it is launched.

    The first run lets the engine do its one-time work. A capture runs nothing, so a launch follows it immediately.
    """

    def __init__(self, device: Device, enqueue: Callable[[], None], tally: Tally, key: tuple[str, int, int]) -> None:
        self._device, self._enqueue, self._tally, self._key = device, enqueue, tally, key
        self._captured: Captured | None = None
        self.run: Callable[[], None] = self._first

    def _first(self) -> None:
        self._enqueue()
        self.run = self._capture

    def _capture(self) -> None:
        try:
            self._captured = self._device.capture(self._enqueue)
        except CaptureError as error:
            self._tally.uncaptured[self._key[0]] = str(error)
            self.run = self._enqueue
        else:
            self._tally.captures.append(self._key)
            self.run = self._captured.launch
        self.run()

    def close(self) -> None:
        if self._captured is not None:
            self._captured.close()


class DevicePass:
    """Buffers and calls for passes of one shape: B rows × T positions over caches of capacity S.

    The hidden state alternates between two buffers: layer i reads one and writes its accumulator to the other, experts
    add to that in place, and layer i + 1 reads it. Each expert has its own buffer for its routing weights. The host
    fills it without waiting; the next read-back shows that the device has read all of them.
    """

    def __init__(
        self,
        owner: PassOwner,
        caches: list[tuple[Buffer, Buffer]],
        num_rows: int,
        length: int,
        tally: Tally | None,
    ) -> None:
        """`tally`: calls are captured and counted there. Without it (a prompt's pass) they are not captured."""
        device, pool, form = owner.device, owner.pool, owner.form
        self._device, self._pool, self._engines, self._tally = device, pool, owner.engines, tally
        self._form, self._caches = form, caches
        self._model = model = form.model
        self.num_rows, self.length = num_rows, length
        self.capacity = caches[0][0].shape[2]
        tokens, hidden = num_rows * length, model.hidden_size
        self._inputs = Block(
            device,
            pool,
            {
                "hidden_BTC": ((num_rows, length, hidden), np.float32),
                **form.step_shapes(num_rows, length, self.capacity),
            },
        )
        self._mask = replace(self._inputs.device[form.mask], host=address_of(self._inputs.host[form.mask]))
        self._routing = Block(
            device,
            pool,
            {
                "weights_NE": ((tokens, model.num_dynamic_experts), np.float32),
                "router_logits_NR": ((tokens, model.num_router_rows), np.float32),
            },
        )
        experts = [f"weight_{expert}" for expert in range(model.num_routed_experts)]
        self._weights = Block(device, pool, {name: ((tokens, 1), np.float32) for name in experts})
        logits = (tokens, model.num_codebooks, model.codec_vocab_size) if tally is not None else (0,)
        self._logits = Block(device, pool, {"logits_NKV": (logits, np.float32)})
        self._expert_input = pool.take((tokens, hidden), np.float32)
        spare = pool.take((num_rows, length, hidden), np.float32)
        self.hidden_BTC = (self._inputs.device["hidden_BTC"], spare)
        self.hidden_NC = tuple(buffer.reshaped(tokens, hidden) for buffer in self.hidden_BTC)
        self.weights_NE: Floats = self._routing.host["weights_NE"]
        self.router_logits_NR: Floats = self._routing.host["router_logits_NR"]
        self.logits_NKV: Floats = self._logits.host["logits_NKV"]
        self._weight_slots = [self._weights.host[name] for name in experts]
        self._event = device.event()
        self._replayed: list[Replayed] = []
        self._trunks: list[Callable[[], None] | None] = [None] * model.num_layers
        self._experts: dict[tuple[int, int], Callable[[], None]] = {}
        self._head: Callable[[], None] | None = None
        self._pending: set[int] = set()

    def write(self, inputs: StepInputs, start: int) -> None:
        """Take this pass's positions from the inputs, beginning at position `start`."""
        host, stop = self._inputs.host, start + self.length
        np.copyto(host["hidden_BTC"], inputs.hidden_BTC[:, start:stop])
        self._form.write(host, inputs, start)
        self._inputs.upload()

    def trunk(self, layer: int) -> None:
        """Enqueue a trunk and the copy of its routing to the host. Call `wait` before you read it."""
        run = self._trunks[layer]
        if run is None:
            run = self._trunks[layer] = self._runner(trunk_name(layer), self._trunk_call(layer))
        run()
        self._device.record(self._event)

    def expert(self, layer: int, expert: int, weight_N1: Floats) -> None:
        """Enqueue the copy of an expert's routing weights to the device, then the expert."""
        if expert in self._pending:  # the device may not have read the weights of its last call yet
            self._device.synchronize()
            self._pending.clear()
        self._pending.add(expert)
        np.copyto(self._weight_slots[expert], weight_N1)
        run = self._experts.get((layer, expert))
        if run is None:
            run = self._runner(expert_name(layer, expert), self._expert_call(layer, expert))
            self._experts[layer, expert] = run
        run()

    def head(self) -> None:
        """Enqueue the head and the copy of the logits to the host."""
        if self._head is None:
            self._head = self._runner("head", self._head_call())
        self._head()
        self._device.record(self._event)

    def wait(self) -> None:
        """Wait until the output of the last trunk or head is on the host."""
        self._device.wait(self._event)
        self._pending.clear()

    def close(self) -> None:
        """Give the memory back to the pool. This pass's work left on the stream runs before any later work."""
        for replayed in self._replayed:
            replayed.close()
        # Their calls hold the engines' contexts, which must end before the engines.
        self._replayed, self._experts, self._head = [], {}, None
        self._trunks = [None] * len(self._trunks)
        self._device.free_event(self._event)
        for block in (self._inputs, self._routing, self._weights, self._logits):
            self._pool.give_pinned(block.memory)
            self._pool.give([block.address])
        self._pool.give([self._expert_input.address, self.hidden_BTC[1].address])

    def _runner(self, graph: str, enqueue: Callable[[], None]) -> Callable[[], None]:
        if self._tally is None or not self._engines.captures:
            return enqueue
        replayed = Replayed(self._device, enqueue, self._tally, (graph, self.num_rows, self.capacity))
        self._replayed.append(replayed)
        return partial(_run, replayed)

    def _bind(self, graph: str, buffers: Mapping[str, Buffer]) -> Callable[[], None]:
        return self._engines.bind(graph, buffers, replayed=self._tally is not None)

    def _trunk_call(self, layer: int) -> Callable[[], None]:
        caches = {
            name: cache.reshaped(*self._form.graph_shape(cache.shape))
            for name, cache in zip(self._form.caches, self._caches[layer], strict=True)
        }
        run = self._bind(
            trunk_name(layer),
            {
                **self._inputs.device,
                self._form.mask: self._mask,
                **self._form.hidden_inputs(self.hidden_BTC[layer % 2], self.hidden_NC[layer % 2]),
                **caches,
                "accumulator_NC": self.hidden_NC[(layer + 1) % 2],
                "expert_input_NC": self._expert_input,
                **self._routing.device,
                **{f"new_{name}": cache for name, cache in caches.items()},
            },
        )
        return partial(_both, run, self._routing.download)

    def _expert_call(self, layer: int, expert: int) -> Callable[[], None]:
        accumulator, slot = self.hidden_NC[(layer + 1) % 2], f"weight_{expert}"
        run = self._bind(
            expert_name(layer, expert),
            {
                "accumulator_NC": accumulator,
                "expert_input_NC": self._expert_input,
                "weight_N1": self._weights.device[slot],
                "new_accumulator_NC": accumulator,
            },
        )
        return partial(_both, partial(self._weights.upload_one, slot), run)

    def _head_call(self) -> Callable[[], None]:
        last = self.hidden_NC[self._model.num_layers % 2]
        run = self._bind("head", {"hidden_NC": last, "logits_NKV": self._logits.device["logits_NKV"]})
        return partial(_both, run, self._logits.download)


def _both(first: Callable[[], None], second: Callable[[], None]) -> None:
    first()
    second()


def _run(replayed: Replayed) -> None:
    replayed.run()
