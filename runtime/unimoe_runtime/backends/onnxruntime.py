"""Backend over ONNX Runtime: one session a graph, one thread pool for all of them, buffers bound once.

A decode step makes some twenty to eighty small calls, so nothing is allocated or looked up in it that could be
done once: inputs and outputs are bound to fixed host buffers, TensorScatter updates the cache in place (input and
output are bound to the same memory), experts add to the accumulator in place.

B rows · T positions · N = B·T tokens · S cache capacity · D head dimension · C hidden · E dynamic experts
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle, expert_name, language_model_graphs, trunk_name
from ..errors import BackendError
from ..look_ahead import LookAhead, look_ahead_routers
from ..residency import Expert, ExpertMemory, Residency
from . import Array, CachedPositions, StepInputs

try:
    import onnxruntime as ort
except ImportError:
    raise BackendError("ONNX Runtime is not installed; `pip install unimoe[cpu]` (or unimoe[gpu])") from None

if TYPE_CHECKING:
    from .onnxruntime_experts import BoundExpert

Floats = NDArray[np.float32]
NO_WEIGHTS: Mapping[str, Any] = {}

# A session with a pool of its own spins its own threads: 73 sessions on two cores were 50 times slower than one
# global pool. ONNX Runtime lets a process set that pool once, so it is remembered here.
_pool_threads: int | None = None


def _use_global_pool(threads: int) -> None:
    global _pool_threads
    if _pool_threads is None:
        ort.set_global_thread_pool_sizes(threads, 1)
        _pool_threads = threads
    elif _pool_threads != threads:
        raise BackendError(
            f"ONNX Runtime's thread pool has {_pool_threads} threads and can be set once a process; "
            f"start a new process for {threads}"
        )


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
        self._loading: dict[str, Lock] = {}
        self.experts: ExpertMemory[BoundExpert] | None = None
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
        return BoundForward(self, num_rows)

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
        if self.experts is not None:
            self.experts.close()


def needs_optimizing(graph: str, precision: str) -> bool:
    """Whether ONNX Runtime has to work over a graph when it loads it.

    A float32 expert's is written as it should run: as fast unoptimized, the same bits, and loaded in two thirds of
    the time, which counts where experts come and go.
    """
    return ".expert." not in graph or precision != "float32"


class _Bound:
    """A host array and the OrtValue that shares its memory."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.value = ort.OrtValue.ortvalue_from_numpy(array)


class _Pass:
    """Buffers and bindings for passes of one shape: B rows × T positions over caches of capacity S.

    The hidden state goes back and forth between two buffers: layer i reads one and writes its accumulator to the
    other, experts add to that in place, layer i + 1 reads it.
    """

    def __init__(
        self, backend: OnnxRuntimeBackend, caches: list[tuple[_Bound, _Bound]], num_rows: int, length: int
    ) -> None:
        model = backend.bundle.model
        self._backend, self._caches = backend, caches
        tokens = num_rows * length
        capacity = caches[0][0].array.shape[2]
        self.hidden_BTC = [np.zeros((num_rows, length, model.hidden_size), dtype=np.float32) for _ in range(2)]
        self.hidden_NC = [buffer.reshape(tokens, model.hidden_size) for buffer in self.hidden_BTC]
        self.weights_NE = np.zeros((tokens, model.num_dynamic_experts), dtype=np.float32)
        self.router_logits_NR = np.zeros((tokens, model.num_router_rows), dtype=np.float32)
        self.weight_N1 = np.zeros((tokens, 1), dtype=np.float32)
        self._in = {
            "cos_BTD": _Bound(np.zeros((num_rows, length, model.head_dim), dtype=np.float32)),
            "sin_BTD": _Bound(np.zeros((num_rows, length, model.head_dim), dtype=np.float32)),
            "mask_B1TS": _Bound(np.zeros((num_rows, 1, length, capacity), dtype=np.bool_)),
            "write_index_B": _Bound(np.zeros(num_rows, dtype=np.int64)),
        }
        self._hidden_BTC = [_Bound(buffer) for buffer in self.hidden_BTC]
        self._hidden_NC = [_Bound(buffer) for buffer in self.hidden_NC]
        self._expert_input = _Bound(np.zeros((tokens, model.hidden_size), dtype=np.float32))
        self._weights = _Bound(self.weights_NE)
        self._router_logits = _Bound(self.router_logits_NR)
        self._weight = _Bound(self.weight_N1)
        self.logits_NKV = np.zeros((tokens, model.num_codebooks, model.codec_vocab_size), dtype=np.float32)
        self._trunks: list[Callable[[], None] | None] = [None] * model.num_layers
        self._experts: dict[tuple[int, int], Callable[[], None]] = {}
        self._head: Callable[[], None] | None = None

    def write(self, inputs: StepInputs) -> None:
        np.copyto(self.hidden_BTC[0], inputs.hidden_BTC)
        for name in ("cos_BTD", "sin_BTD", "mask_B1TS"):
            np.copyto(self._in[name].array, getattr(inputs, name))
        self._in["write_index_B"].array.fill(inputs.write_index)

    def trunk(self, layer: int) -> None:
        run = self._trunks[layer]
        if run is None:
            run = self._trunks[layer] = self._bind_trunk(layer)
        run()

    def expert(self, layer: int, expert: int) -> None:
        if self._backend.experts is not None:
            resident = self._backend.experts.acquire((layer, expert))
            try:
                resident.bound(self, layer)()
            finally:
                self._backend.experts.release((layer, expert))
            return
        run = self._experts.get((layer, expert))
        if run is None:
            session = self._backend.session(expert_name(layer, expert))
            run = self._experts[layer, expert] = self.bind_expert(session, layer)
        run()

    def head(self) -> None:
        if self._head is None:
            self._head = self._bind_head()
        self._head()

    def expert_input(self) -> Floats:
        array: Floats = self._expert_input.array
        return array

    def _bind_trunk(self, layer: int) -> Callable[[], None]:
        session = self._backend.session(trunk_name(layer))
        binding = session.io_binding()
        key, value = self._caches[layer]
        binding.bind_ortvalue_input("hidden_BTC", self._hidden_BTC[layer % 2].value)
        for name, bound in self._in.items():
            binding.bind_ortvalue_input(name, bound.value)
        binding.bind_ortvalue_input("key_cache_BHSD", key.value)
        binding.bind_ortvalue_input("value_cache_BHSD", value.value)
        binding.bind_ortvalue_output("accumulator_NC", self._hidden_NC[(layer + 1) % 2].value)
        binding.bind_ortvalue_output("expert_input_NC", self._expert_input.value)
        binding.bind_ortvalue_output("weights_NE", self._weights.value)
        binding.bind_ortvalue_output("router_logits_NR", self._router_logits.value)
        binding.bind_ortvalue_output("new_key_cache_BHSD", key.value)
        binding.bind_ortvalue_output("new_value_cache_BHSD", value.value)
        return partial(session.run_with_iobinding, binding)

    def bind_expert(self, session: Any, layer: int, weights: Mapping[str, Any] = NO_WEIGHTS) -> Callable[[], None]:
        """A call of an expert's session on this pass's buffers; `weights` are OrtValues, where they are inputs."""
        binding = session.io_binding()
        for name, value in weights.items():
            binding.bind_ortvalue_input(name, value)
        accumulator = self._hidden_NC[(layer + 1) % 2].value
        binding.bind_ortvalue_input("accumulator_NC", accumulator)
        binding.bind_ortvalue_input("expert_input_NC", self._expert_input.value)
        binding.bind_ortvalue_input("weight_N1", self._weight.value)
        binding.bind_ortvalue_output("new_accumulator_NC", accumulator)
        return partial(session.run_with_iobinding, binding)

    def _bind_head(self) -> Callable[[], None]:
        session = self._backend.session("head")
        binding = session.io_binding()
        last = self._hidden_NC[self._backend.bundle.model.num_layers % 2]
        binding.bind_ortvalue_input("hidden_NC", last.value)
        binding.bind_ortvalue_output("logits_NKV", _Bound(self.logits_NKV).value)
        return partial(session.run_with_iobinding, binding)


class BoundForward:
    """Forward over bound host buffers; one utterance's cache and passes.

    A pass over one position runs a picked expert on all rows (static shapes). A longer one, the prefill, gathers
    each expert's rows first.
    """

    def __init__(self, backend: OnnxRuntimeBackend, num_rows: int) -> None:
        self._backend = backend
        self._num_rows = num_rows
        self._capacity = 0
        self._caches: list[tuple[_Bound, _Bound]] = []
        self._pass: _Pass | None = None
        self._length = 0
        self._side = 0
        self._look_ahead = backend.look_ahead()

    def begin(self, inputs: StepInputs) -> None:
        length, capacity = inputs.mask_B1TS.shape[2:]
        if capacity != self._capacity:
            self._grow(capacity)
            self._pass = None
        if self._pass is None or length != self._length:
            self._pass = _Pass(self._backend, self._caches, self._num_rows, length)
            self._length = length
        self._pass.write(inputs)
        self._side = 0

    def trunk(self, layer: int) -> Floats:
        current = self._current()
        if self._look_ahead is not None:
            self._look_ahead.before_trunk(layer, current.hidden_NC[layer % 2])
        current.trunk(layer)
        self._side = (layer + 1) % 2
        if self._look_ahead is not None:
            self._look_ahead.after_trunk(layer, current.weights_NE, decoding=self._length == 1)
        return current.weights_NE

    def router_logits(self) -> Floats:
        return self._current().router_logits_NR

    def expert(self, layer: int, expert: int, weight_N1: Floats) -> None:
        current = self._current()
        if self._length == 1:
            np.copyto(current.weight_N1, weight_N1)
            current.expert(layer, expert)
            return
        tokens_M = weight_N1[:, 0].nonzero()[0]
        accumulator_NC = current.hidden_NC[self._side]
        inputs = {
            "accumulator_NC": accumulator_NC[tokens_M],
            "expert_input_NC": current.expert_input()[tokens_M],
            "weight_N1": weight_N1[tokens_M],
        }
        outputs = self._backend.run(expert_name(layer, expert), inputs)
        accumulator_NC[tokens_M] = outputs["new_accumulator_NC"]

    def hidden(self) -> Floats:
        return self._current().hidden_NC[self._side].copy()

    def head(self, tokens_M: NDArray[np.int64]) -> Floats:
        current = self._current()
        if self._length == 1 and len(tokens_M) == self._num_rows:
            current.head()
            return current.logits_NKV[tokens_M]
        hidden_MC = current.hidden_NC[self._side][tokens_M]
        logits: Floats = self._backend.run("head", {"hidden_NC": hidden_MC})["logits_NKV"]
        return logits

    def snapshot(self, num_positions: int) -> CachedPositions:
        layers = [
            (key.array[0, :, :num_positions].copy(), value.array[0, :, :num_positions].copy())
            for key, value in self._caches
        ]
        return CachedPositions(layers=tuple(layers))

    def restore(self, cached: CachedPositions, capacity: int) -> None:
        if capacity > self._capacity:
            self._grow(capacity)
            self._pass = None
        for pair, kept in zip(self._caches, cached.layers, strict=True):
            for bound, kept_HPD in zip(pair, kept, strict=True):
                bound.array[:, :, : cached.num_positions] = kept_HPD

    def _current(self) -> _Pass:
        if self._pass is None:
            raise RuntimeError("begin() comes before a pass over the layers")
        return self._pass

    def _grow(self, capacity: int) -> None:
        model = self._backend.bundle.model
        old, kept = self._caches, min(capacity, self._capacity)
        self._caches = []
        for layer in range(model.num_layers):
            pair = []
            for side in range(2):
                array = np.zeros((self._num_rows, model.num_kv_heads, capacity, model.head_dim), dtype=np.float32)
                if kept:
                    array[:, :, :kept] = old[layer][side].array[:, :, :kept]
                pair.append(_Bound(array))
            self._caches.append((pair[0], pair[1]))
        self._capacity = capacity
