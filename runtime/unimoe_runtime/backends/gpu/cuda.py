"""The GPU through the CUDA runtime of cuda-bindings: memory, one stream, copies, marks, captured graphs.

It has not run on a GPU yet. The tests call every function with the arguments used here as far as cuda-bindings answers
without a driver, which checks names, numbers of arguments and types.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.gpu.device import CaptureError, address_of
from unimoe_runtime.errors import BackendError

_INSTALL = "`pip install cuda-bindings`, of the CUDA version that the driver has (`unimoe doctor` shows it)"


def cuda_runtime() -> Any:
    """The module cuda.bindings.runtime. Raises BackendError if it is not installed."""
    try:
        from cuda.bindings import runtime
    except ImportError:
        raise BackendError(f"CUDA's Python bindings are not installed; {_INSTALL}") from None
    return runtime


class CudaDevice:
    """The first GPU that CUDA shows (CUDA_VISIBLE_DEVICES chooses), and one stream on it.

    Raises BackendError if there is no driver or no GPU.
    """

    kind = "cuda"

    def __init__(self) -> None:
        cuda = self._cuda = cuda_runtime()
        error, count = cuda.cudaGetDeviceCount()
        if error or not count:
            _, driver = cuda.cudaDriverGetVersion()
            why = f"CUDA: {self._words(error)}" if driver else "there is no NVIDIA driver here"
            raise BackendError(f"no GPU: {why}; `unimoe doctor` says what is missing")
        attribute = cuda.cudaDeviceAttr
        self.capability = (
            int(self._call(cuda.cudaDeviceGetAttribute(attribute.cudaDevAttrComputeCapabilityMajor, 0))),
            int(self._call(cuda.cudaDeviceGetAttribute(attribute.cudaDevAttrComputeCapabilityMinor, 0))),
        )
        self._stream = self._call(cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking))
        self.stream = int(self._stream)
        # Looked up once: a decode step makes about a hundred calls.
        self._memcpy, self._kind = cuda.cudaMemcpyAsync, cuda.cudaMemcpyKind.cudaMemcpyDefault
        self._record, self._wait = cuda.cudaEventRecord, cuda.cudaEventSynchronize

    def allocate(self, num_bytes: int) -> int:
        cuda = self._cuda
        error, address = cuda.cudaMalloc(num_bytes)
        if error == cuda.cudaError_t.cudaErrorMemoryAllocation:
            cuda.cudaGetLastError()
            free, total = self._call(cuda.cudaMemGetInfo())
            raise BackendError(
                f"the GPU has {free >> 20} MiB free of {total >> 20} and {num_bytes >> 20} more are needed; "
                "close what else uses it, or take a smaller precision or cache"
            )
        self._call((error,))
        return int(address)

    def free(self, address: int) -> None:
        self._call(self._cuda.cudaFree(address))

    def pinned(self, num_bytes: int) -> NDArray[np.uint8]:
        address = int(self._call(self._cuda.cudaHostAlloc(num_bytes, self._cuda.cudaHostAllocDefault)))
        return np.ctypeslib.as_array((ctypes.c_uint8 * num_bytes).from_address(address))

    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        self._call(self._cuda.cudaFreeHost(address_of(array)))

    def copy(self, target: int, source: int, num_bytes: int) -> None:
        self._check(self._memcpy(target, source, num_bytes, self._kind, self._stream)[0])

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, width: int, height: int
    ) -> None:
        self._call(
            self._cuda.cudaMemcpy2DAsync(
                target, target_pitch, source, source_pitch, width, height, self._kind, self._stream
            )
        )

    def clear(self, address: int, num_bytes: int) -> None:
        self._call(self._cuda.cudaMemsetAsync(address, 0, num_bytes, self._stream))

    def event(self) -> Any:
        return self._call(self._cuda.cudaEventCreateWithFlags(self._cuda.cudaEventDisableTiming))

    def free_event(self, event: Any) -> None:
        self._call(self._cuda.cudaEventDestroy(event))

    def record(self, event: Any) -> None:
        self._check(self._record(event, self._stream)[0])

    def wait(self, event: Any) -> None:
        self._check(self._wait(event)[0])

    def synchronize(self) -> None:
        self._call(self._cuda.cudaStreamSynchronize(self._stream))

    def capture(self, enqueue: Callable[[], None]) -> CudaGraph:
        """Raises CaptureError, also for an error that `enqueue` raises: many calls fail during a capture."""
        cuda, problem, graph = self._cuda, "", None
        self._call(
            cuda.cudaStreamBeginCapture(self._stream, cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        )
        try:
            enqueue()
        except BackendError as raised:
            problem = str(raised)
        finally:  # a stream that keeps capturing is unusable
            error, graph = cuda.cudaStreamEndCapture(self._stream)
        if error and not problem:
            problem = self._words(error)
        if problem:
            if graph is not None and int(graph):
                cuda.cudaGraphDestroy(graph)
            cuda.cudaGetLastError()
            raise CaptureError(f"cannot be captured as a CUDA graph: {problem}")
        try:
            executable = self._call(cuda.cudaGraphInstantiate(graph, 0))
        except BackendError as raised:
            raise CaptureError(f"cannot be captured as a CUDA graph: {raised}") from None
        finally:
            cuda.cudaGraphDestroy(graph)
        self._call(cuda.cudaGraphUpload(executable, self._stream))
        return CudaGraph(self, cuda, executable, self._stream)

    def milliseconds(self, enqueue: Callable[[], None]) -> float:
        """Time on the device of the work that `enqueue` puts on the stream."""
        cuda = self._cuda
        begin, end = (self._call(cuda.cudaEventCreateWithFlags(cuda.cudaEventDefault)) for _ in range(2))
        try:
            self.record(begin)
            enqueue()
            self.record(end)
            self.wait(end)
            return float(self._call(cuda.cudaEventElapsedTime(begin, end)))
        finally:
            for event in (begin, end):
                cuda.cudaEventDestroy(event)

    def close(self) -> None:
        self._cuda.cudaStreamDestroy(self._stream)

    def _call(self, result: tuple[Any, ...]) -> Any:
        """The values that a call returns, without the first, which is its error."""
        self._check(result[0])
        return result[1] if len(result) == 2 else result[1:]

    def _check(self, error: Any) -> None:
        if error:
            raise BackendError(f"CUDA: {self._words(error)}")

    def _words(self, error: Any) -> str:
        _, words = self._cuda.cudaGetErrorString(error)
        return words.decode() if isinstance(words, bytes) else str(words)


class CudaGraph:
    """A captured sequence of calls that can be launched repeatedly on the device's stream."""

    def __init__(self, device: CudaDevice, cuda: Any, executable: Any, stream: Any) -> None:
        self._device, self._cuda = device, cuda
        self._launch, self._executable, self._stream = cuda.cudaGraphLaunch, executable, stream

    def launch(self) -> None:
        self._device._check(self._launch(self._executable, self._stream)[0])

    def close(self) -> None:
        self._cuda.cudaGraphExecDestroy(self._executable)
