"""A device in host memory that is as late as a GPU may be: enqueued work runs only when the caller waits.

Fresh memory is NaN, and copies outside allocated memory fail. A host buffer that changes before its copy has run gives
wrong results, as on a GPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from threading import RLock, get_ident
from typing import Any

import numpy as np

from unimoe_runtime.backends.gpu.device import ALIGNMENT, CaptureError, address_of

Action = Callable[[], object]


class HostGraph:
    def __init__(self, device: HostDevice, actions: list[Action]) -> None:
        self._device, self._actions, self.closed = device, actions, False

    def launch(self) -> None:
        assert not self.closed
        self._device.launches += 1
        for action in self._actions:
            self._device.enqueue(action)

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class HostDevice:
    kind = "cpu"
    stream = 0x57
    capability = (8, 9)

    def __init__(self, *, refuses_capture: bool = False, eager: bool = False) -> None:
        """`eager`: run work at once, for an engine that computes when it is called."""
        self._eager = eager
        self.queue: list[Action] = []
        self.allocations = self.launches = 0
        self.graphs: list[HostGraph] = []
        self.waits = 0
        self.closed = False
        self._done = self._next_event = 0
        self._memory: dict[int, tuple[np.ndarray, int]] = {}
        self.pinned_memory: dict[int, np.ndarray] = {}
        self._marks: dict[int, int] = {}
        self._capturing: list[Action] | None = None
        self._capturer = 0
        self._lock = RLock()
        self._refuses_capture = refuses_capture

    @property
    def num_allocated(self) -> int:
        return len(self._memory)

    def allocate(self, num_bytes: int) -> int:
        self.allocations += 1
        memory = np.full(num_bytes + ALIGNMENT, 0xFF, np.uint8)  # NaN in every float type
        address = -(-address_of(memory) // ALIGNMENT) * ALIGNMENT
        self._memory[address] = (memory, num_bytes)
        return address

    def free(self, address: int) -> None:
        del self._memory[address]

    def pinned(self, num_bytes: int) -> np.ndarray:
        self.allocations += 1
        array = np.full(num_bytes, 0xFF, np.uint8)
        self.pinned_memory[address_of(array)] = array
        return array

    def free_pinned(self, array: np.ndarray) -> None:
        del self.pinned_memory[address_of(array)]

    def copy(self, target: int, source: int, num_bytes: int) -> None:
        self._check(target, num_bytes)
        self._check(source, num_bytes)
        self.enqueue(lambda: ctypes.memmove(target, source, num_bytes))

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, width: int, height: int
    ) -> None:
        assert width <= target_pitch and width <= source_pitch
        for row in range(height):
            self.copy(target + row * target_pitch, source + row * source_pitch, width)

    def clear(self, address: int, num_bytes: int) -> None:
        self._check(address, num_bytes)
        self.enqueue(lambda: ctypes.memset(address, 0, num_bytes))

    def event(self) -> int:
        self._next_event += 1
        self._marks[self._next_event] = 0
        return self._next_event

    def free_event(self, event: int) -> None:
        del self._marks[event]

    def record(self, event: int) -> None:
        assert self._capturing is None
        with self._lock:
            self._marks[event] = self._done + len(self.queue)

    def wait(self, event: int) -> None:
        assert self._capturer != get_ident()
        self.waits += 1
        with self._lock:
            self._work(self._marks[event] - self._done)

    def synchronize(self) -> None:
        assert self._capturing is None
        with self._lock:
            self._work(len(self.queue))

    def capture(self, enqueue: Action) -> HostGraph:
        assert self._capturing is None
        self._capturing, self._capturer = [], get_ident()
        try:
            enqueue()
            if self._refuses_capture:
                raise CaptureError("refused")
            graph = HostGraph(self, self._capturing)
        finally:
            self._capturing, self._capturer = None, 0
        self.graphs.append(graph)
        return graph

    def close(self) -> None:
        assert not self._memory and not self.pinned_memory and not self._marks and not self.closed
        self.closed = True

    def enqueue(self, action: Action) -> None:
        """Enqueue the work of an engine's kernels."""
        if self._eager:
            action()
            return
        assert self._capturer in (0, get_ident()), "another thread's call is captured as well"
        with self._lock:
            (self.queue if self._capturing is None else self._capturing).append(action)

    def _work(self, count: int) -> None:
        for _ in range(count):
            self.queue.pop(0)()
            self._done += 1

    def _check(self, address: int, num_bytes: int) -> None:
        """Check that a device address has the given number of allocated bytes; any other address is a host array's."""
        for begin, (_, size) in self._memory.items():
            if begin <= address < begin + size:
                assert address + num_bytes <= begin + size, "a copy leaves its buffer"


def array_at(address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """The memory at an address, as an array."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(address)).view(dtype).reshape(shape)
