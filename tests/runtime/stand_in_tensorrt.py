"""A stand-in for the module tensorrt. Engines are files that name a graph; the numpy oracle computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.runtime.host_device import HostDevice, array_at
from unimoe_export.engines.rewriting import lifted_shape
from unimoe_runtime.backends.protocol import Array
from unimoe_runtime.bundle.engine_sets import (
    EngineRecord,
    EngineSet,
    Shape,
    engine_folder,
    engine_key,
    source_sha256,
    write_engines,
)
from unimoe_runtime.bundle.reader import Bundle, GraphInfo, language_model_graphs
from unimoe_runtime.files.hashes import sha256_of

TensorIOMode = Enum("TensorIOMode", "INPUT OUTPUT")


class ILogger:
    class Severity:
        ERROR = 1

    def log(self, severity: int, message: str) -> None:
        raise NotImplementedError


def write_engine_set(
    bundle: Bundle,
    *,
    target: str = "rtx-4090",
    flavour: str = "tensorrt",
    version: str = "11.4.0",
    capacities: tuple[int, ...] = (8, 32),
    rows: int = 2,
    positions: int = 3,
    extra: Mapping[str, dict[str, tuple[Shape, Shape, Shape]]] | None = None,
    unbuilt: dict[str, str] | None = None,
) -> Path:
    """Write an engine set as `unimoe build` does. An engine consists of the name of its graph and its capacity.

    `extra`: further graphs with their profiles.
    """
    extra = extra or {}
    folder = engine_folder(bundle, target)
    folder.mkdir(parents=True)
    engines = {}
    for graph in (*language_model_graphs(bundle.model), *extra):
        for capacity in capacities if graph.endswith(".trunk") else (None,):
            key = engine_key(graph, capacity)
            file = folder / f"{key}.engine"
            file.write_text(key)
            engines[key] = EngineRecord(
                graph=graph, file=file.name, log=f"{key}.log", bytes=file.stat().st_size, sha256=sha256_of(file),
                source_sha256=source_sha256(bundle, graph), recipe_sha256="", precision="float32", seconds=0.1,
                profile=extra.get(graph, {}), cache_capacity=capacity,
            )  # fmt: skip
    write_engines(
        EngineSet(
            path=folder,
            target=target,
            flavour=flavour,
            engine_version=version,
            capabilities=((8, 9),),
            max_rows=rows,
            max_positions=positions,
            cache_capacities=capacities,
            engines=engines,
            unbuilt=unbuilt or {},
        )
    )
    return folder


class StandInTensorRT(SimpleNamespace):
    """`tensorrt` over one bundle and one device. `compute` runs a graph on host arrays."""

    def __init__(self, bundle: Bundle, device: HostDevice, compute: Callable[[str, dict[str, Array]], Any]) -> None:
        super().__init__(
            __version__="11.4.0",
            TensorIOMode=TensorIOMode,
            ILogger=ILogger,
            ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user"),
            CudaGraphStrategy=SimpleNamespace(DISABLED="disabled", WHOLE_GRAPH_CAPTURE="whole"),
            nptype=np.dtype,
        )
        self.bundle, self.device, self.compute = bundle, device, compute
        self.contexts: list[Context] = []
        self.deserialized: list[str] = []
        self.fails_at: str | None = None

    def Runtime(self, logger: ILogger) -> SimpleNamespace:
        self.logger = logger

        def deserialize(content: bytes) -> Engine | None:
            self.deserialized.append(content.decode())
            if content == b"bad":
                logger.log(1, "not an engine\nat line 1")
                return None
            return Engine(self, content.decode())

        return SimpleNamespace(deserialize_cuda_engine=deserialize)


class Engine:
    device_memory_size_v2 = 1000

    def __init__(self, trt: StandInTensorRT, key: str) -> None:
        self.trt = trt
        self.graph, _, capacity = key.partition("@")
        self.capacity = int(capacity) if capacity else None
        info: GraphInfo = trt.bundle.graphs[self.graph]
        self.tensors = [(value, TensorIOMode.INPUT) for value in info.inputs]
        self.tensors += [(value, TensorIOMode.OUTPUT) for value in info.outputs]
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return str(self.tensors[index][0].name)

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return next(mode for value, mode in self.tensors if value.name == name)

    def get_tensor_shape(self, name: str) -> tuple[int | str, ...]:
        """The shape as built: caches have an axis for one head."""
        return lifted_shape(name, next(value.shape for value, _ in self.tensors if value.name == name))

    def get_tensor_dtype(self, name: str) -> str:
        return next(value.dtype for value, _ in self.tensors if value.name == name)

    def create_execution_context(self, strategy: str | None = None, *, runtime_config: Any = None) -> Context:
        assert strategy == "user" or runtime_config.strategy == "user"
        context = Context(self, runtime_config)
        self.trt.contexts.append(context)
        return context

    def create_runtime_config(self) -> SimpleNamespace:
        config = SimpleNamespace(cuda_graph_strategy="disabled", strategy=None, cache=None)
        config.set_execution_context_allocation_strategy = lambda strategy: vars(config).update(strategy=strategy)
        config.set_runtime_cache = lambda cache: vars(config).update(cache=cache)
        config.create_runtime_cache = RuntimeCache
        return config


class RuntimeCache:
    def __init__(self) -> None:
        self.content = b"fresh"

    def deserialize(self, content: bytes) -> bool:
        self.content = content + b"+"
        return True

    def serialize(self) -> bytes:
        return self.content


class Context:
    def __init__(self, engine: Engine, config: Any) -> None:
        self.engine, self.config = engine, config
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.address_log: list[tuple[str, int]] = []
        self.scratch = 0
        self.runs = 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        declared = self.engine.get_tensor_shape(name)
        sizes: dict[int | str, int | None] = {"S": self.engine.capacity}
        if len(shape) != len(declared):
            return False
        for size, dimension in zip(shape, declared, strict=True):
            if sizes.get(dimension, dimension) not in (size, dimension):
                return False
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        sizes: dict[str, int] = {"S": self.engine.capacity or 0}
        for value, mode in self.engine.tensors:
            if mode is TensorIOMode.INPUT:
                declared = self.engine.get_tensor_shape(value.name)
                sizes |= {d: s for d, s in zip(declared, self.shapes[value.name], strict=True) if isinstance(d, str)}
        if "L" in sizes:
            sizes.setdefault("T", -(-sizes["L"] // int((self.engine.trt.bundle.codec or {})["hop_samples"])))
        sizes.setdefault("N", sizes.get("B", 0) * sizes.get("T", 0))
        declared = self.engine.get_tensor_shape(name)
        return tuple(sizes[size] if isinstance(size, str) else size for size in declared)

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address % 256 == 0
        self.addresses[name] = address
        self.address_log.append((name, address))
        return True

    def set_device_memory(self, address: int, num_bytes: int) -> None:
        assert num_bytes >= self.engine.device_memory_size_v2
        self.scratch = address

    def execute_async_v3(self, stream: int) -> bool:
        trt, graph = self.engine.trt, self.engine.graph
        assert stream == trt.device.stream and self.scratch
        if graph == trt.fails_at:
            trt.logger.log(1, "illegal memory access\nin a kernel")
            return False
        names = [value.name for value, mode in self.engine.tensors if mode is TensorIOMode.INPUT]
        dtypes = {value.name: np.dtype(value.dtype) for value, _ in self.engine.tensors}
        inputs = {name: array_at(self.addresses[name], self.shapes[name], dtypes[name]) for name in names}
        targets = dict(self.addresses)

        def kernels() -> None:
            self.runs += 1
            plain = {
                name: array.reshape(len(array), *array.shape[-2:]) if name.endswith("_BSX") else array
                for name, array in inputs.items()
            }
            outputs = trt.compute(graph, {name: array.copy() for name, array in plain.items()})
            for name, array in outputs.items():
                array_at(targets[name], array.shape, array.dtype)[...] = array

        trt.device.enqueue(kernels)
        return True
