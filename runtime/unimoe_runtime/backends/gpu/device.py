"""The device loop's protocols for a GPU and for an inference engine, and the pool of device memory.

`cuda.CudaDevice` is the GPU; `tensorrt_engines.TensorRTEngines` and `onnxruntime_engines.OnnxRuntimeEngines` are the
engines. All work goes to one stream, in the order of the calls, so a copy never overtakes what it depends on.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.protocol import Array
from unimoe_runtime.errors import BackendError

ALIGNMENT: Final = 256
"""Bytes. TensorRT requires this alignment of a tensor's address."""

IN_PLACE: Final[Mapping[str, str]] = {
    "new_accumulator_NC": "accumulator_NC",
    "new_key_cache_BHSD": "key_cache_BHSD",
    "new_value_cache_BHSD": "value_cache_BHSD",
    "new_key_cache_BSX": "key_cache_BSX",
    "new_value_cache_BSX": "value_cache_BSX",
}
"""Outputs that lie in the memory of an input, both in the loop and when a graph runs by name. So `verify` checks an
engine as the loop uses it, and finds an engine that writes such an output before it has read the input."""


class CaptureError(BackendError):
    """A sequence of calls cannot be captured as a graph. It still runs call by call."""


@dataclass(frozen=True)
class Buffer:
    """A tensor in device memory. `host`: the address of its copy in pinned memory, if there is one."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    host: int | None = None

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def reshaped(self, *shape: int) -> Buffer:
        return replace(self, shape=shape)


class Captured(Protocol):
    """A captured sequence of calls."""

    def launch(self) -> None:
        """Put it on the stream."""

    def close(self) -> None:
        """Free it."""


class Device(Protocol):
    """One GPU and one stream on it. Addresses are plain integers; a copy takes host and device addresses alike.

    Everything raises BackendError, one line.
    """

    kind: str
    """The name that ONNX Runtime uses: "cuda"."""
    stream: int

    def allocate(self, num_bytes: int) -> int:
        """Device memory, aligned to ALIGNMENT."""

    def free(self, address: int) -> None:
        """Free memory of `allocate`."""

    def pinned(self, num_bytes: int) -> NDArray[np.uint8]:
        """Host memory that the device copies from and to directly."""

    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        """Free memory of `pinned`."""

    def copy(self, target: int, source: int, num_bytes: int) -> None:
        """Enqueue a copy. Pinned memory must stay as it is until a later wait."""

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, width: int, height: int
    ) -> None:
        """Enqueue a copy of `height` rows of `width` bytes that lie a pitch apart."""

    def clear(self, address: int, num_bytes: int) -> None:
        """Enqueue zeros."""

    def event(self) -> Any:
        """A mark that can be recorded repeatedly."""

    def free_event(self, event: Any) -> None:
        """Free a mark of `event`."""

    def record(self, event: Any) -> None:
        """Enqueue the mark."""

    def wait(self, event: Any) -> None:
        """Wait until the device has reached the latest recording of the mark."""

    def synchronize(self) -> None:
        """Wait for all enqueued work."""

    def capture(self, enqueue: Callable[[], None]) -> Captured:
        """Capture what `enqueue` puts on the stream, without running it. Raises CaptureError."""

    def close(self) -> None: ...


class Engines(Protocol):
    """The graphs of a bundle, ready for one device."""

    captures: bool
    """Whether the loop captures what an engine enqueues. False if the engine replays by itself, or never."""
    max_rows: int
    """Largest number of rows (B) of one pass."""
    max_tokens: int
    """Largest number of tokens (N) of one call."""

    def capacity(self, num_slots: int) -> int:
        """The capacity of the caches (S) for `num_slots` positions. Raises UnimoeError if none is large enough."""

    def max_positions(self, num_rows: int) -> int:
        """Largest number of positions (T) of one pass over `num_rows` rows. Raises UnimoeError for too many rows."""

    def load(self, graph: str) -> None:
        """Load a graph now instead of at its first use."""

    def bind(self, graph: str, buffers: Mapping[str, Buffer], *, replayed: bool) -> Callable[[], None]:
        """A call that enqueues a graph over these tensors. `replayed`: it is called repeatedly and unchanged."""

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a graph on host arrays, with IN_PLACE outputs in the memory of their inputs."""

    def uncaptured(self) -> Iterable[str]:
        """Graphs that the engine should replay by itself and cannot."""

    def close(self) -> None: ...


class Pool:
    """All memory of a backend, device and pinned. Returned memory is reused; `close` frees it in CUDA."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        self._sizes: dict[int, int] = {}
        self._free_pinned: defaultdict[int, list[NDArray[np.uint8]]] = defaultdict(list)
        self._pinned: list[NDArray[np.uint8]] = []
        self._lock = Lock()

    @property
    def num_bytes(self) -> int:
        """Bytes of device memory, in use or not."""
        return sum(self._sizes.values())

    def take(self, shape: tuple[int, ...], dtype: Any) -> Buffer:
        """A tensor of unknown content. A tensor without elements has its own address as well."""
        dtype = np.dtype(dtype)
        return Buffer(self.take_bytes(math.prod(shape) * dtype.itemsize), shape, dtype)

    def take_bytes(self, num_bytes: int) -> int:
        """Address of at least `num_bytes` bytes of device memory of unknown content."""
        size = _rounded(num_bytes)
        with self._lock:
            if self._free[size]:
                return self._free[size].pop()
            address = self._device.allocate(size)
            self._sizes[address] = size
            return address

    def give(self, addresses: Iterable[int]) -> None:
        """Take device memory back for reuse."""
        with self._lock:
            for address in addresses:
                self._free[self._sizes[address]].append(address)

    def take_pinned(self, num_bytes: int) -> NDArray[np.uint8]:
        """At least `num_bytes` bytes of pinned memory of unknown content."""
        size = _rounded(num_bytes)
        with self._lock:
            if self._free_pinned[size]:
                return self._free_pinned[size].pop()
            memory = self._device.pinned(size)
            self._pinned.append(memory)
            return memory

    def give_pinned(self, memory: NDArray[np.uint8]) -> None:
        """Take pinned memory back for reuse."""
        with self._lock:
            self._free_pinned[memory.nbytes].append(memory)

    def close(self) -> None:
        for address in self._sizes:
            self._device.free(address)
        for memory in self._pinned:
            self._device.free_pinned(memory)
        self._sizes.clear()
        self._free.clear()
        self._pinned.clear()
        self._free_pinned.clear()


def _rounded(num_bytes: int) -> int:
    """Round up by at most a quarter, so that buffers of similar size can replace each other."""
    step = max(2 * ALIGNMENT, 1 << max(num_bytes.bit_length() - 3, 0))
    return max(1, -(-num_bytes // step)) * step


def aligned(num_bytes: int) -> int:
    """Round up to a multiple of ALIGNMENT."""
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT


def address_of(array: NDArray[Any]) -> int:
    """Address of a host array's memory."""
    return int(array.ctypes.data)
