"""Backend over ONNX Runtime: one session a graph, one thread pool for all of them."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle, expert_name, language_model_graphs
from ..errors import BackendError
from ..look_ahead import LookAhead, look_ahead_routers
from ..residency import Expert, ExpertMemory, Residency
from . import Array

try:
    import onnxruntime as ort
except ImportError:
    raise BackendError("ONNX Runtime is not installed; `pip install unimoe[cpu]` (or unimoe[gpu])") from None

from .onnxruntime_forward import BoundForward, Spare

if TYPE_CHECKING:
    from .onnxruntime_experts import ResidentExpert

Floats = NDArray[np.float32]

# A session with a pool of its own spins its own threads: 73 sessions on two cores were 50 times slower than one
# global pool. ONNX Runtime lets a process set that pool once, so it is remembered here.
_pool_threads: int | None = None


def _use_global_pool(threads: int) -> None:
    global _pool_threads
    if _pool_threads is None:
        ort.set_global_thread_pool_sizes(threads, 1)
        _pool_threads = threads
        _return_freed_memory()
    elif _pool_threads != threads:
        raise BackendError(
            f"ONNX Runtime's thread pool has {_pool_threads} threads and can be set once a process; "
            f"start a new process for {threads}"
        )


def _return_freed_memory() -> None:
    """Have glibc give blocks of a megabyte and more back to the system as they are freed, for the whole process.

    Left alone it raises that limit to twice the largest block freed, here a codec's weights, and keeps as much in the
    heap of every thread that ever made a session: bundles opened and closed in turn took 114 MB instead of 65.
    """
    with suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        for trim_or_mmap_threshold in (-1, -3):
            mallopt(trim_or_mmap_threshold, 1 << 20)


# `Cast` to float16 and bfloat16, and to float32, as an ONNX attribute lies in its file: AttributeProto name "to",
# i = the number of the element type, type = INT.
_CAST_TO_HALF = {"float16": b"\n\x02to\x18\x0a\xa0\x01\x02", "bfloat16": b"\n\x02to\x18\x10\xa0\x01\x02"}
_CAST_TO_FLOAT = b"\n\x02to\x18\x01\xa0\x01\x02"
CPU_ONLY = ("CPUExecutionProvider",)


def open_session(
    path: os.PathLike[str],
    providers: Sequence[str] = CPU_ONLY,
    precision: str = "float32",
    *,
    content: bytes | None = None,
    profile: Path | None = None,
    optimize: bool = True,
    arena: bool = True,
) -> Any:
    """An InferenceSession on the process's one pool. Raises BackendError, one line, where the graph is refused.

    `content` is a graph to take instead of the file's, over the same weights. `profile` turns ONNX Runtime's own
    profiler on, and is how the name of its file begins. Without `optimize` the graph runs as it is written, without
    `arena` the session's memory comes from malloc.

    A graph of 16-bit `precision` says by its casts what its products compute in. The CPU provider has no bfloat16
    product, and none in float16 that is faster than float32: there the casts are set to float32 as the graph is
    read, and ONNX Runtime widens the weights once, when the session is made.
    """
    if _pool_threads is None:
        _use_global_pool(len(os.sched_getaffinity(0)))
    options = ort.SessionOptions()
    options.use_per_session_threads = False
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = arena
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    graph: str | bytes = os.fspath(path) if content is None else content
    if precision in _CAST_TO_HALF and tuple(providers) == CPU_ONLY:
        content = content or Path(path).read_bytes()
        graph = content.replace(_CAST_TO_HALF[precision], _CAST_TO_FLOAT)
    if isinstance(graph, bytes):
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(Path(path).parent))
    try:
        return ort.InferenceSession(graph, options, providers=list(providers))
    except Exception as problem:
        raise BackendError(f"{path}: ONNX Runtime refuses it: {str(problem).splitlines()[0]}") from None


class OnnxRuntimeBackend:
    """Sessions over a bundle's graphs, each made at its first use.

    `threads` None: one per core this process may use (or the pool's, where it is set already). `profile_folder`: ONNX
    Runtime's profiler is on, and `end_profiling` leaves a file for each graph there.
    Raises BackendError where a provider is not available or ONNX Runtime refuses a graph.
    """

    name = "onnxruntime"

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        memory_budget_bytes: int | None = None,
        profile_folder: Path | None = None,
    ) -> None:
        self.bundle = bundle
        self._profile_folder = profile_folder
        self.providers = list(providers or CPU_ONLY)
        available = ort.get_available_providers()
        missing = [provider for provider in self.providers if provider not in available]
        if missing:
            raise BackendError(f"ONNX Runtime has no {missing[0]} here; it offers {', '.join(available)}")
        _use_global_pool(threads or _pool_threads or len(os.sched_getaffinity(0)))
        self._sessions: dict[str, Any] = {}
        self._spares: dict[int, list[Spare]] = {}
        self._loading: dict[str, Lock] = {}
        self.experts: ExpertMemory[ResidentExpert] | None = None
        self._budgeted: dict[str, Expert] = {}
        self._routers: list[Floats] = []
        if memory_budget_bytes is not None:
            from .onnxruntime_experts import expert_memory

            self.experts = expert_memory(bundle, self.providers, memory_budget_bytes)
            self._budgeted = {expert_name(*expert): expert for expert in self.experts.bytes_of}
            self._routers = look_ahead_routers(bundle)

    def session(self, graph: str) -> Any:
        """The InferenceSession of a graph, its files verified and loaded at the first call, once for all threads."""
        session = self._sessions.get(graph)
        if session is None:
            with self._loading.setdefault(graph, Lock()):
                session = self._sessions.get(graph)
                if session is None:
                    session = self._sessions[graph] = self._load(graph)
        return session

    def _load(self, graph: str) -> Any:
        info = self.bundle.graph(graph)
        profile = None if self._profile_folder is None else self._profile_folder / graph
        return open_session(
            self.bundle.path / info.file,
            self.providers,
            info.precision,
            profile=profile,
            optimize=needs_optimizing(graph, info.precision),
        )

    def loaded(self) -> list[str]:
        """Names of the graphs that are loaded, in the order of their first use; experts under a budget last."""
        experts = self.experts.loaded() if self.experts is not None else []
        return [*self._sessions, *(expert_name(*expert) for expert in experts)]

    def end_profiling(self) -> dict[str, tuple[Path, int]]:
        """Each loaded graph's profile: its file, and its time 0 in nanoseconds of `time.time_ns`."""
        return {
            graph: (Path(session.end_profiling()), session.get_profiling_start_time_ns())
            for graph, session in self._sessions.items()
        }

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        expert = self._budgeted.get(graph)
        if self.experts is not None and expert is not None:
            resident = self.experts.acquire(expert)
            try:
                return resident.run(inputs)
            finally:
                self.experts.release(expert)
        session = self.session(graph)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    def start(self, num_rows: int) -> BoundForward:
        return BoundForward(self, num_rows, self._spares.setdefault(num_rows, []))

    def load(self, graphs: Iterable[str] | None = None) -> None:
        """Load graphs now; of experts under a budget as many as it holds."""
        wanted = list(graphs or language_model_graphs(self.bundle.model))
        for graph in wanted:
            if graph not in self._budgeted:
                self.session(graph)
        if self.experts is not None:
            self.experts.fill(self._budgeted[graph] for graph in wanted if graph in self._budgeted)

    def look_ahead(self) -> LookAhead | None:
        """What a forward reports its picks to, under a budget."""
        if self.experts is None:
            return None
        return LookAhead(self.experts, self._routers, self.bundle.model)

    def residency(self) -> Residency | None:
        return None if self.experts is None else self.experts.statistics()

    def close(self) -> None:
        self._sessions.clear()
        self._spares.clear()
        if self.experts is not None:
            self.experts.close()
        trim_heap()


def trim_heap() -> None:
    """Have the C library give back to the system what was freed: sessions leave holes in its heap."""
    with suppress(AttributeError, OSError):  # another library than glibc: what it keeps stays with it
        ctypes.CDLL(None).malloc_trim(0)


def needs_optimizing(graph: str, precision: str) -> bool:
    """Whether ONNX Runtime has to work over a graph when it loads it.

    A float32 expert's is written as it should run: as fast unoptimized, the same bits, and loaded in two thirds of
    the time, which counts where experts come and go.
    """
    return ".expert." not in graph or precision != "float32"
