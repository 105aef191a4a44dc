"""The device loop over ONNX Runtime's CUDA provider: sessions whose inputs and outputs are bound to device memory.

ONNX Runtime enqueues on the loop's stream (`user_compute_stream`) and does not wait at the end of a run; CUDA graphs
are its own (`enable_cuda_graph`), one for each pass (`gpu_graph_id`). docs/explanation/device.md says which
nodes its provider has kernels for.

It has not run on a GPU yet. The tests run this module on the CPU provider, over host memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from unimoe_runtime.errors import BackendError
from unimoe_runtime.install import install_command

try:  # before the modules for the CPU, whose error names another extra
    import onnxruntime as ort
except ImportError:
    raise BackendError(f"ONNX Runtime is not installed: `{install_command('gpu')}`") from None

from unimoe_runtime.backends.failures import engine_failure, naming_its_graph
from unimoe_runtime.backends.gpu.backend import DeviceBackend
from unimoe_runtime.backends.gpu.cuda import CudaDevice
from unimoe_runtime.backends.gpu.device import IN_PLACE, Buffer, Device, Pool, address_of
from unimoe_runtime.backends.onnxruntime.sessions import CPU_ONLY, needs_optimizing, open_session
from unimoe_runtime.backends.protocol import Array
from unimoe_runtime.bundle.reader import Bundle

_CUDA = "CUDAExecutionProvider"
_SMALLEST_CAPACITY = 256
_MAX_POSITIONS = 512
"""Positions of a prompt per pass: enough to keep a GPU busy, and few enough to keep attention's scores small."""


def open_onnxruntime_cuda(bundle: Bundle, *, graphs: bool = True) -> DeviceBackend:
    """The backend "onnxruntime-cuda". `graphs`: replay decode steps as CUDA graphs. Raises BackendError."""
    if _CUDA not in ort.get_available_providers():
        raise BackendError(
            f"ONNX Runtime {ort.__version__} here has no CUDA provider; `pip uninstall onnxruntime` and then "
            f"`{install_command('gpu')}`: only one of onnxruntime and onnxruntime-gpu can be installed"
        )
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # CUDA's libraries from nvidia-* packages, if they are installed
    device = CudaDevice()
    pool = Pool(device)
    return DeviceBackend(
        "onnxruntime-cuda", bundle, device, pool, OnnxRuntimeEngines(bundle, device, pool, graphs=graphs)
    )


class OnnxRuntimeEngines:
    """Sessions of one bundle on one device; each is made at its first use. See `device.Engines`.

    A device of kind "cpu" is host memory under the CPU provider: the same calls, for tests.
    """

    library = "ONNX Runtime"
    max_rows = 64
    max_tokens = 1 << 20  # any number

    def __init__(self, bundle: Bundle, device: Device, pool: Pool, *, graphs: bool) -> None:
        self._bundle, self._device, self._pool = bundle, device, pool
        self._graphs = graphs and device.kind == "cuda"
        self.captures = False
        self._sessions: dict[str, Any] = {}
        self._graph_ids = itertools.count(1)

    def capacity(self, num_slots: int) -> int:
        """Capacities double, because each growth costs a copy of the caches and new graphs."""
        return max(_SMALLEST_CAPACITY, 1 << (num_slots - 1).bit_length())

    def max_positions(self, num_rows: int) -> int:
        return _MAX_POSITIONS

    @naming_its_graph
    def load(self, graph: str) -> None:
        self._session(graph)

    @naming_its_graph
    def bind(self, graph: str, buffers: Mapping[str, Buffer], *, replayed: bool) -> Callable[[], None]:
        session = self._session(graph)
        options = ort.RunOptions()
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        replays = replayed and self._captures(graph)
        if self._captures(graph):
            options.add_run_config_entry("gpu_graph_id", str(next(self._graph_ids)) if replays else "-1")
        run = partial(session.run_with_iobinding, self._binding(session, buffers), options)
        if replays and "weight_N1" in buffers:
            # ONNX Runtime computes the first run twice, before the capture and after it. An expert adds to its
            # accumulator in place, so the first run has weight 0 and adds nothing.
            weight = buffers["weight_N1"]
            self._device.clear(weight.address, weight.num_bytes)
            self._enqueue(graph, run)
        return partial(self._enqueue, graph, run)

    @naming_its_graph
    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        session = self._session(graph)
        buffers, taken = {}, []
        try:
            for name, value in inputs.items():
                array = np.ascontiguousarray(value)
                buffers[name] = self._pool.take(array.shape, array.dtype)
                taken.append(buffers[name].address)
                self._device.copy(buffers[name].address, address_of(array), array.nbytes)
            self._device.synchronize()
            binding = self._binding(session, buffers)
            for output in session.get_outputs():
                if output.name in IN_PLACE:
                    self._bind_output(binding, output.name, buffers[IN_PLACE[output.name]])
                else:
                    binding.bind_output(output.name, "cpu")
            options = ort.RunOptions()
            if self._captures(graph):
                options.add_run_config_entry("gpu_graph_id", "-1")
            self._enqueue(graph, partial(session.run_with_iobinding, binding, options))
            outputs: dict[str, Array] = {}
            for output, value in zip(session.get_outputs(), binding.get_outputs(), strict=True):
                if output.name in IN_PLACE:
                    buffer = buffers[IN_PLACE[output.name]]
                    array = np.empty(buffer.shape, buffer.dtype)
                    self._device.copy(address_of(array), buffer.address, array.nbytes)
                    outputs[output.name] = array
                else:
                    outputs[output.name] = value.numpy()
            self._device.synchronize()
        finally:
            self._pool.give(taken)
        return outputs

    def uncaptured(self) -> Iterable[str]:
        return tuple(graph for graph in self._sessions if self._graphs and not self._captures(graph))

    def close(self) -> None:
        self._sessions.clear()

    def _captures(self, graph: str) -> bool:
        """Whether a graph is captured. Not a trunk: its Split copies sizes and addresses from host memory that ONNX
        Runtime reuses after the run, so a replay would read the data of another run. Not the codec: its shapes vary."""
        return self._graphs and (graph == "head" or ".expert." in graph)

    def _session(self, graph: str) -> Any:
        session = self._sessions.get(graph)
        if session is None:
            session = self._sessions[graph] = self._open(graph)
        return session

    def _open(self, graph: str) -> Any:
        info = self._bundle.graph(graph)
        path, optimize = self._bundle.path / info.file, needs_optimizing(graph, info.precision)
        if self._device.kind == "cpu":
            return open_session(path, CPU_ONLY, info.precision, optimize=optimize)
        session = open_session(path, self._providers(captured=self._captures(graph)), info.precision)
        if session.get_providers()[0] != _CUDA:
            raise BackendError(
                f"ONNX Runtime {ort.__version__} cannot start its CUDA provider: it needs CUDA "
                f"{getattr(ort, 'cuda_version', '') or 'as its release notes say'} and cuDNN 9; "
                "`pip install onnxruntime-gpu[cuda,cudnn]` brings both"
            )
        return session

    def _providers(self, *, captured: bool) -> list[Any]:
        options = {
            "user_compute_stream": str(self._device.stream),
            "enable_cuda_graph": str(int(captured)),
            "use_tf32": "0",  # the router needs full float32
            "arena_extend_strategy": "kSameAsRequested",  # each session has its own arena, which should not double
        }
        return [(_CUDA, options), *CPU_ONLY]

    def _binding(self, session: Any, buffers: Mapping[str, Buffer]) -> Any:
        binding = session.io_binding()
        for value, memory in zip(session.get_inputs(), session.get_input_memory_infos(), strict=True):
            buffer = buffers[value.name]
            kind, address = self._device.kind, buffer.address
            if kind != "cpu" and memory.name == "Cpu" and buffer.host is not None:
                # A node on the CPU reads it. If it were bound on the device, it would be copied only once, now.
                kind, address = "cpu", buffer.host
            binding.bind_input(value.name, kind, 0, buffer.dtype.type, list(buffer.shape), address)
        for value in session.get_outputs():
            if value.name in buffers:
                self._bind_output(binding, value.name, buffers[value.name])
        return binding

    def _bind_output(self, binding: Any, name: str, buffer: Buffer) -> None:
        binding.bind_output(name, self._device.kind, 0, buffer.dtype.type, list(buffer.shape), buffer.address)

    def _enqueue(self, graph: str, run: Callable[[], None]) -> None:
        try:
            run()
        except Exception as error:
            raise engine_failure(graph, self.library, error) from None
