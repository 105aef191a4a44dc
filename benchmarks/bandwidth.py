"""Read bandwidth, the floor of a decode step: how fast this machine reads weights that are not in a cache.

Each kernel reads one buffer of 256 MB, larger than any cache of this machine, with third-party compiled and tuned
code. The fastest kernel counts, because a step could reach the same rate. A sum or a maximum is no valid floor: it is
slower than a matrix-vector product (one chain of additions for each lane).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

from unimoe_tools.profiling.bandwidth import BEYOND_CACHE_BYTES

BUFFER_BYTES = BEYOND_CACHE_BYTES


def clock_for(threads: int) -> Callable[[], float]:
    """Seconds of the process's CPU time for one thread, which waiting for other processes does not lengthen; wall time
    for several threads, because idle ones spin."""
    return time.process_time if threads == 1 else time.perf_counter


_WIDTH = 1024
_ROWS = BUFFER_BYTES // (4 * _WIDTH)


class ReadKernels:
    """Kernels that read BUFFER_BYTES; `seconds(name)` runs one of them once. They use the threads of torch and of ONNX
    Runtime's global pool, which the caller must have set."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        matrix = torch.ones(_ROWS, _WIDTH)
        vector = torch.ones(_WIDTH)
        array, ones = matrix.numpy(), np.ones(_WIDTH, np.float32)
        product = constant_product(folder, _WIDTH, _ROWS)
        self._kernels: dict[str, Callable[[], object]] = {
            "torch mv": lambda: torch.mv(matrix, vector),
            "numpy dot": lambda: array @ ones,
            "onnxruntime MatMul": product,
        }
        self.names = list(self._kernels)

    def seconds(self, name: str) -> float:
        start = self._clock()
        self._kernels[name]()
        return self._clock() - start


def constant_product(folder: Path, inputs: int, outputs: int, *, rows: int = 1) -> Callable[[], object]:
    """A run of x [rows, inputs] times a constant [inputs, outputs], packed like weights, in ONNX Runtime."""
    folder.mkdir(parents=True, exist_ok=True)
    np.ones((inputs, outputs), np.float32).tofile(folder / "weight.bin")
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[inputs, outputs])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weight.bin")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "read",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, outputs])],
        [weight],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), folder / "read.onnx"
    )
    options = onnxruntime.SessionOptions()
    options.use_per_session_threads = False
    session = onnxruntime.InferenceSession(folder / "read.onnx", options, providers=["CPUExecutionProvider"])
    x = np.ones((rows, inputs), np.float32)
    return lambda: session.run(None, {"x": x})
