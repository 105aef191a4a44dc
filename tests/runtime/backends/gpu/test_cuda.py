"""CUDA's and TensorRT's own bindings, called without a GPU: names, numbers of arguments and types of every call.

cuda-bindings converts a call's arguments before it looks for a driver. A wrong argument is therefore a TypeError here,
and "no driver" is the right answer. The tests count that answer as a success, so that the next call follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from unimoe_runtime.backends.gpu import cuda as cuda_device
from unimoe_runtime.backends.gpu.cuda import CudaDevice
from unimoe_runtime.backends.gpu.device import CaptureError, address_of
from unimoe_runtime.errors import BackendError

runtime = pytest.importorskip("cuda.bindings.runtime")
NO_DRIVER = runtime.cudaError_t.cudaErrorInsufficientDriver
if runtime.cudaGetDeviceCount()[0] != NO_DRIVER:
    pytest.skip("there is a driver: a call's success cannot be made up", allow_module_level=True)


class Accepting:
    """cuda.bindings.runtime: makes the real calls and turns the answer "no driver" into a success."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.errors: dict[str, Any] = {}
        self._host: list[np.ndarray] = []

    def __getattr__(self, name: str) -> Any:
        value = getattr(runtime, name)
        return value if isinstance(value, type) or not callable(value) else self._accepting(name, value)

    def _accepting(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            answer = function(*args)
            self.calls.append(name)
            if name == "cudaGetErrorString":
                return answer
            assert answer[0] in (NO_DRIVER, 0), (name, answer)
            made_up = {
                "cudaGetDeviceCount": [1],
                "cudaDeviceGetAttribute": [8],
                "cudaMalloc": [1 << 20],
                "cudaHostAlloc": [self._pinned(args[0]) if name == "cudaHostAlloc" else 0],
                "cudaStreamCreateWithFlags": [runtime.cudaStream_t(7)],
                "cudaEventCreateWithFlags": [runtime.cudaEvent_t(7)],
                "cudaStreamEndCapture": [runtime.cudaGraph_t(7)],
                "cudaGraphInstantiate": [runtime.cudaGraphExec_t(7)],
                "cudaMemGetInfo": [1 << 30, 2 << 30],
                "cudaEventElapsedTime": [0.5],
            }.get(name, [None] * (len(answer) - 1))
            assert len(made_up) == len(answer) - 1, f"{name} answers {len(answer)} values"
            return (self.errors.get(name, runtime.cudaError_t.cudaSuccess), *made_up)

        return call

    def _pinned(self, num_bytes: int) -> int:
        self._host.append(np.ones(num_bytes, np.uint8))
        return address_of(self._host[-1])


@pytest.fixture
def accepting(monkeypatch: pytest.MonkeyPatch) -> Accepting:
    accepting = Accepting()
    monkeypatch.setattr(cuda_device, "cuda_runtime", lambda: accepting)
    return accepting


def test_every_call_is_one_that_the_bindings_take(accepting: Accepting) -> None:
    device = CudaDevice()
    assert device.capability == (8, 8) and device.stream == 7 and device.kind == "cuda"
    address = device.allocate(1000)
    pinned = device.pinned(64)
    assert pinned.shape == (64,) and pinned.all()
    device.copy(address, address_of(pinned), 64)
    device.copy_rows(address, 128, address_of(pinned), 32, 32, 2)
    device.clear(address, 64)
    event = device.event()
    device.record(event)
    device.wait(event)
    device.synchronize()
    device.free_event(event)
    graph = device.capture(lambda: device.copy(address, address_of(pinned), 64))
    graph.launch()
    graph.close()
    assert device.milliseconds(lambda: None) == 0.5
    device.free(address)
    device.free_pinned(pinned)
    device.close()
    assert {"cudaStreamBeginCapture", "cudaGraphUpload", "cudaGraphExecDestroy"} <= set(accepting.calls)
    for made, undone in (
        ("cudaEventCreateWithFlags", "cudaEventDestroy"),
        ("cudaStreamCreateWithFlags", "cudaStreamDestroy"),
    ):
        assert accepting.calls.count(made) == accepting.calls.count(undone)


def test_errors_are_one_line(accepting: Accepting) -> None:
    device = CudaDevice()
    errors = runtime.cudaError_t
    accepting.errors["cudaMalloc"] = errors.cudaErrorMemoryAllocation
    with pytest.raises(BackendError, match=r"^the GPU has 1024 MiB free of 2048 and 512 more are needed; .*$"):
        device.allocate(512 << 20)
    accepting.errors["cudaMemcpyAsync"] = errors.cudaErrorIllegalAddress
    with pytest.raises(BackendError, match=r"^CUDA: an illegal memory access was encountered$"):
        device.copy(1, 2, 3)


@pytest.mark.parametrize("failing", ["enqueue", "cudaStreamEndCapture", "cudaGraphInstantiate"])
def test_a_failed_capture_ends_and_says_so(accepting: Accepting, failing: str) -> None:
    device = CudaDevice()

    def enqueue() -> None:
        if failing == "enqueue":
            raise BackendError("head: cannot run it")

    if failing != "enqueue":
        accepting.errors[failing] = runtime.cudaError_t.cudaErrorStreamCaptureUnsupported
    with pytest.raises(CaptureError, match="cannot be captured as a CUDA graph: "):
        device.capture(enqueue)
    assert accepting.calls.count("cudaStreamEndCapture") == 1
    assert accepting.calls.count("cudaGraphDestroy") == 1


def test_no_driver_is_said_in_one_line() -> None:
    expected = r"^no GPU: there is no NVIDIA driver here; `unimoe doctor` says what is missing$"
    with pytest.raises(BackendError, match=expected):
        CudaDevice()


def test_tensorrt_rtx_has_what_is_called() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    called = {
        trt.Runtime: ["deserialize_cuda_engine"],
        trt.ICudaEngine: [
            "num_io_tensors", "get_tensor_name", "get_tensor_mode", "get_tensor_dtype", "device_memory_size_v2",
            "create_execution_context", "create_runtime_config",
        ],
        trt.IRuntimeConfig: [
            "set_execution_context_allocation_strategy", "cuda_graph_strategy", "create_runtime_cache",
            "set_runtime_cache",
        ],
        trt.IExecutionContext: [
            "set_input_shape", "get_tensor_shape", "set_tensor_address", "set_device_memory", "execute_async_v3",
        ],
        trt.IRuntimeCache: ["serialize", "deserialize"],
        trt.ExecutionContextAllocationStrategy: ["USER_MANAGED"],
        trt.CudaGraphStrategy: ["WHOLE_GRAPH_CAPTURE", "DISABLED"],
        trt.TensorIOMode: ["INPUT", "OUTPUT"],
    }  # fmt: skip
    for owner, names in called.items():
        assert not [name for name in names if not hasattr(owner, name)]
    assert "runtime_config" in trt.ICudaEngine.create_execution_context.__doc__
    assert np.dtype(trt.nptype(trt.DataType.BOOL)) == np.bool_
    assert np.dtype(trt.nptype(trt.DataType.INT64)) == np.int64
