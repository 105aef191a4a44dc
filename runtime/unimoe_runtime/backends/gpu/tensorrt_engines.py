"""Engines of TensorRT and of TensorRT-RTX: deserialized, bound to device memory, enqueued.

The two have one Python API; `Flavour` holds the differences. Engines share one scratch memory, because one stream
runs them one after the other. A replayed call has its own execution context: a CUDA graph is valid only for the
context's shapes and addresses at its capture, and the loop never changes those. Everything else (prompts, the codec,
`run`) uses one further context per engine, whose shapes and addresses are set for each call.

It has not run on a GPU yet. The tests check that the calls exist in tensorrt_rtx, and drive this module with a stand-in
for the library whose engines the numpy oracle computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from unimoe_runtime.backends.failures import engine_failure, naming_its_graph
from unimoe_runtime.backends.gpu.backend import DeviceBackend
from unimoe_runtime.backends.gpu.cuda import CudaDevice
from unimoe_runtime.backends.gpu.device import IN_PLACE, Buffer, Device, Pool, address_of
from unimoe_runtime.backends.gpu.tensorrt_flavour import Flavour
from unimoe_runtime.backends.gpu.tensorrt_library import load_library
from unimoe_runtime.backends.protocol import Array, Backend
from unimoe_runtime.backends.trunk_form import capacity_of
from unimoe_runtime.bundle.engine_sets import EngineSet, built_targets, check_machine, open_engines
from unimoe_runtime.bundle.engine_trust import require_trusted
from unimoe_runtime.bundle.reader import Bundle, language_model_graphs
from unimoe_runtime.errors import BackendError, EngineError


def open_tensorrt(bundle: Bundle, target: str | None, *, graphs: bool = True) -> DeviceBackend:
    """The backend "tensorrt" over the bundle's engines for a target; None takes those that fit this GPU.

    `graphs`: replay decode steps as CUDA graphs. Raises BackendError, EngineError.
    """
    if target is not None or len(built_targets(bundle)) < 2:
        engine_set = open_engines(bundle, target)  # reports what is missing, on any machine
        trt = load_library(engine_set.flavour)
        device = CudaDevice()
    else:
        device = CudaDevice()
    pool = Pool(device)
    try:
        if target is None and len(built_targets(bundle)) > 1:
            engine_set = _fitting(bundle, device.capability)
            trt = load_library(engine_set.flavour)
        require_trusted(engine_set)
        check_machine(engine_set, device.capability, trt.__version__)
        engines = TensorRTEngines(bundle, engine_set, device, pool, trt, graphs=graphs)
        return DeviceBackend("tensorrt", bundle, device, pool, engines, engine_set)
    except BaseException:
        pool.close()
        device.close()
        raise


def _fitting(bundle: Bundle, capability: tuple[int, int]) -> EngineSet:
    """The only engine set for this GPU. Raises EngineError if there are none or several."""
    fitting = [
        engine_set
        for engine_set in (open_engines(bundle, target) for target in built_targets(bundle))
        if capability in engine_set.capabilities
    ]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(engine_set.target for engine_set in fitting) or "none"
    raise EngineError(
        f"{bundle.path}: this GPU has compute capability {capability[0]}.{capability[1]}, engines that fit it: "
        f"{names}; name one with --target, or build one"
    )


class TensorRTEngines:
    """Engines of one set on one device; each is read at its first use. See `device.Engines`."""

    def __init__(
        self, bundle: Bundle, engine_set: EngineSet, device: Device, pool: Pool, trt: Any, *, graphs: bool
    ) -> None:
        self._bundle, self._set, self._device, self._pool, self._trt = bundle, engine_set, device, pool, trt
        self._language_model = frozenset(language_model_graphs(bundle.model))
        self.library = engine_set.flavour
        self._flavour = Flavour(trt, engine_set, graphs=graphs)
        self.captures = self._flavour.captures
        self.max_rows = engine_set.max_rows
        self.max_tokens = engine_set.max_rows * engine_set.max_positions
        self._logger, self._log = _logger(trt)
        self._runtime = trt.Runtime(self._logger)
        self._engines: dict[str, Any] = {}
        self._any_shape: dict[str, Any] = {}
        self._scratch_bytes = self._scratch = 0
        self._cpu: Backend | None = None

    def capacity(self, num_slots: int) -> int:
        return self._set.capacity_for(num_slots)

    def max_positions(self, num_rows: int) -> int:
        if num_rows > self._set.max_rows:
            raise EngineError(
                f"{self._set.path}: built for {self._set.max_rows} rows at most, {num_rows} are asked for; "
                f"build again with --rows {num_rows}"
            )
        return self._set.max_positions

    @naming_its_graph
    def load(self, graph: str) -> None:
        if graph in self._set.unbuilt:
            self._on_cpu().load([graph])
        else:
            self._engine(graph, self._set.cache_capacities[0] if graph.endswith(".trunk") else None)

    @naming_its_graph
    def bind(self, graph: str, buffers: Mapping[str, Buffer], *, replayed: bool) -> Callable[[], None]:
        capacity = capacity_of(buffers)
        engine = self._engine(graph, capacity)
        if replayed:
            context = self._context(engine, graph, replayed=True)
            self._set_tensors(context, engine, graph, buffers)
            return partial(self._execute, context, graph)
        context = self._shared_context(graph, capacity)

        def run() -> None:
            try:
                self._set_tensors(context, engine, graph, buffers)
            except Exception as error:
                raise engine_failure(graph, self.library, error) from None
            self._execute(context, graph)

        return run

    @naming_its_graph
    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        arrays = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        if self._left_to_cpu(graph, arrays):
            return self._on_cpu().run(graph, arrays)
        capacity = capacity_of(arrays)
        engine, context = self._engine(graph, capacity), self._shared_context(graph, capacity)
        buffers: dict[str, Buffer] = {}
        taken: list[int] = []
        try:
            for name, array in arrays.items():
                buffers[name] = self._pool.take(array.shape, array.dtype)
                taken.append(buffers[name].address)
                self._device.copy(buffers[name].address, address_of(array), array.nbytes)
            self._set_shapes(context, engine, graph, buffers)
            outputs = {}
            for name in self._names(engine, self._trt.TensorIOMode.OUTPUT):
                dtype = np.dtype(self._trt.nptype(engine.get_tensor_dtype(name)))
                if name in IN_PLACE:
                    buffers[name] = buffers[IN_PLACE[name]]
                    outputs[name] = np.empty(buffers[name].shape, dtype)
                else:
                    outputs[name] = np.empty(tuple(context.get_tensor_shape(name)), dtype)
                    buffers[name] = self._pool.take(outputs[name].shape, dtype)
                    taken.append(buffers[name].address)
            self._set_addresses(context, engine, graph, buffers)
            self._execute(context, graph)
            for name, array in outputs.items():
                self._device.copy(address_of(array), buffers[name].address, array.nbytes)
            self._device.synchronize()
        finally:
            self._pool.give(taken)
        return outputs

    def uncaptured(self) -> Iterable[str]:
        return ()  # TensorRT-RTX does not report them

    def close(self) -> None:
        if self._cpu is not None:
            self._cpu.close()
        self._any_shape.clear()
        self._engines.clear()
        self._flavour.close()

    def _engine(self, graph: str, capacity: int | None) -> Any:
        record = self._set.find(graph, capacity)
        engine = self._engines.get(record.file)
        if engine is None:
            self._log.clear()
            engine = self._runtime.deserialize_cuda_engine(self._set.checked(record).read_bytes())
            if engine is None:
                raise BackendError(f"{self._set.path / record.file}: {self._set.flavour} refuses it: {self._problem()}")
            self._engines[record.file] = engine
        return engine

    def _context(self, engine: Any, graph: str, *, replayed: bool) -> Any:
        self._log.clear()
        context = self._flavour.context(engine, replayed=replayed)
        if context is None:
            raise BackendError(f"{graph}: {self._set.flavour} makes no context for it: {self._problem()}")
        return context

    def _shared_context(self, graph: str, capacity: int | None) -> Any:
        key = f"{graph}@{capacity}"
        if key not in self._any_shape:
            self._any_shape[key] = self._context(self._engine(graph, capacity), graph, replayed=False)
        return self._any_shape[key]

    def _set_tensors(self, context: Any, engine: Any, graph: str, buffers: Mapping[str, Buffer]) -> None:
        self._set_shapes(context, engine, graph, buffers)
        self._set_addresses(context, engine, graph, buffers)

    def _set_shapes(self, context: Any, engine: Any, graph: str, buffers: Mapping[str, Buffer]) -> None:
        self._log.clear()
        for name in self._names(engine, self._trt.TensorIOMode.INPUT):
            buffer = buffers[name]
            wanted = np.dtype(self._trt.nptype(engine.get_tensor_dtype(name)))
            if wanted != buffer.dtype:
                raise BackendError(f"{graph}: its engine takes {name} as {wanted}, the bundle gives {buffer.dtype}")
            if not context.set_input_shape(name, _shape_in_engine(engine, name, buffer.shape)):
                raise BackendError(
                    f"{graph}: its engine does not take {name} of the shape {list(buffer.shape)}: {self._problem()}"
                )

    def _set_addresses(self, context: Any, engine: Any, graph: str, buffers: Mapping[str, Buffer]) -> None:
        """Set addresses and scratch memory. A context keeps its scratch memory for life, so no block is freed."""
        for mode in (self._trt.TensorIOMode.INPUT, self._trt.TensorIOMode.OUTPUT):
            for name in self._names(engine, mode):
                if not context.set_tensor_address(name, buffers[name].address):
                    raise BackendError(f"{graph}: its engine does not take the address of {name}: {self._problem()}")
        needed = int(engine.device_memory_size_v2)
        if needed > self._scratch_bytes:
            # At least doubled, because captured calls keep the smaller blocks and those must not add up.
            self._scratch_bytes = max(needed, 2 * self._scratch_bytes)
            self._scratch = self._pool.take_bytes(self._scratch_bytes)
        if needed:
            context.set_device_memory(self._scratch, self._scratch_bytes)

    def _execute(self, context: Any, graph: str) -> None:
        try:
            runs = context.execute_async_v3(self._device.stream)
        except Exception as error:
            raise engine_failure(graph, self.library, error) from None
        if not runs:
            raise BackendError(f"{graph}: {self._set.flavour} cannot run it: {self._problem()}")

    def _names(self, engine: Any, mode: Any) -> list[str]:
        names = (engine.get_tensor_name(index) for index in range(engine.num_io_tensors))
        return [name for name in names if engine.get_tensor_mode(name) == mode]

    def _problem(self) -> str:
        return self._log[-1].splitlines()[0] if self._log else "no reason in its log"

    def _left_to_cpu(self, graph: str, inputs: Mapping[str, Array]) -> bool:
        """Whether a codec or vision graph runs on the CPU: no engine, or inputs that are too large (a long voice)."""
        if graph in self._set.unbuilt:
            return True
        if graph in self._language_model:
            return False
        return not self._set.find(graph).takes({name: array.shape for name, array in inputs.items()})

    def _on_cpu(self) -> Backend:
        if self._cpu is None:
            from unimoe_runtime.backends.onnxruntime.backend import OnnxRuntimeBackend

            self._cpu = OnnxRuntimeBackend(self._bundle)
        return self._cpu


def _logger(trt: Any) -> tuple[Any, list[str]]:
    """A logger for this process (the first one stays), and its errors."""
    errors: list[str] = []

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                errors.append(message)

    return Log(), errors


def _shape_in_engine(engine: Any, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """An input's shape in the engine: a cache [B, S, X] is [B, 1, S, X] there."""
    missing = len(engine.get_tensor_shape(name)) - len(shape)
    return (shape[0], *(1,) * missing, *shape[1:])
