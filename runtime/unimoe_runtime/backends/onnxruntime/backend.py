"""Backend over ONNX Runtime: one session per graph, one thread pool for all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from unimoe_runtime.backends.host_forward import HOST_ROWS
from unimoe_runtime.backends.onnxruntime.forward import BoundForward, Spare
from unimoe_runtime.backends.onnxruntime.huge_pages import use_huge_pages
from unimoe_runtime.backends.onnxruntime.passes import GatheredTokens
from unimoe_runtime.backends.onnxruntime.sessions import (
    CPU_ONLY,
    engine_error,
    needs_optimizing,
    open_session,
    pool_threads,
    require_signature,
    require_this_process,
    trim_heap,
    use_global_pool,
)
from unimoe_runtime.backends.protocol import Array, RowCounts
from unimoe_runtime.bundle.reader import Bundle, expert_name, language_model_graphs, trunk_name
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import BackendError
from unimoe_runtime.expert_cache.cache import Expert, ExpertCache
from unimoe_runtime.expert_cache.prefetch import ExpertPrefetcher, prefetch_routers
from unimoe_runtime.expert_cache.statistics import ExpertCacheStats
from unimoe_runtime.hardware.system import available_cores

if TYPE_CHECKING:
    from unimoe_runtime.backends.onnxruntime.expert_loader import ResidentExpert

Floats = NDArray[np.float32]

# Products with at most this many weights are too short to divide among threads: one stream of the demo (37,000) is as
# fast with one thread, one of the voices (66,000) is not.
_SHORT_PRODUCT = 50_000
# More callers at once would wait for each other's Python code.
_MOST_LANES = 2
# ONNX Runtime adds four 4-byte numbers at a time, starting at an address that is a multiple of 16.
_VECTOR = 4


def _row_alignment(bundle: Bundle) -> int:
    """Alignment of a stream's first row at which its routing weights equal, bit for bit, those of the stream alone.

    Bundles of earlier exports sum over a token's experts with ReduceSum. ONNX Runtime's order of summation depends on
    the address.
    """
    file = bundle.graphs[trunk_name(0)].file
    # A pack without the trunks' graphs runs them as engines, and here the codec at most.
    if file in bundle.left_out or b"ReduceSum" not in bundle.checked(file).read_bytes():
        return 1
    return _VECTOR // math.gcd(_VECTOR, bundle.model.num_dynamic_experts)


def _has_short_products(model: ModelConfig) -> bool:
    width = max(model.routed_intermediate_size, model.num_shared_experts * model.shared_intermediate_size)
    return model.hidden_size * width <= _SHORT_PRODUCT


class OnnxRuntimeBackend:
    """Sessions over a bundle's graphs, each made at its first use.

    `threads` None: one per core that this process may use, or the pool's number if the pool is already set. With
    `lanes`, a small model then has one thread a pass, and the cores serve several callers at once.
    `profile_folder`: ONNX Runtime's profiler is on, and `end_profiling` leaves one file per graph there.
    Raises BackendError if a provider is not available or ONNX Runtime refuses a graph.
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
        lanes: bool = False,
    ) -> None:
        self.bundle = bundle
        self._profile_folder = profile_folder
        self.providers = list(providers or CPU_ONLY)
        self.on_host = self.providers == list(CPU_ONLY)
        available = ort.get_available_providers()
        missing = [provider for provider in self.providers if provider not in available]
        if missing:
            raise BackendError(f"ONNX Runtime has no {missing[0]} here; it offers {', '.join(available)}")
        is_open = lanes and threads is None and memory_budget_bytes is None and self.on_host
        if is_open and _has_short_products(bundle.model) and pool_threads() in (None, 1):
            # Idle threads of a pool spin, so they would take the cores of other callers.
            use_global_pool(1)
            self.lanes = min(available_cores(), _MOST_LANES)
        else:
            use_global_pool(threads or pool_threads() or available_cores())
            self.lanes = 1
        self._sessions: dict[str, Any] = {}
        self._output_names: dict[str, list[str]] = {}
        self._spares: dict[int, list[Spare]] = {}
        self._gathered: dict[int, GatheredTokens] = {}
        self._loading: dict[str, Lock] = {}
        self._row_counts = replace(HOST_ROWS, alignment=_row_alignment(bundle))
        self.experts: ExpertCache[ResidentExpert] | None = None
        self._budgeted: dict[str, Expert] = {}
        self._routers: list[Floats] = []
        if memory_budget_bytes is not None:
            from unimoe_runtime.backends.onnxruntime.expert_loader import expert_cache

            self.experts = expert_cache(bundle, self.providers, memory_budget_bytes)
            self._budgeted = {expert_name(*expert): expert for expert in self.experts.bytes_of}
            self._routers = prefetch_routers(bundle)

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
        require_this_process()
        info = self.bundle.graph(graph)
        profile = None if self._profile_folder is None else self._profile_folder / graph
        path = self.bundle.path / info.file
        session = open_session(
            path, self.providers, info.precision, profile=profile, optimize=needs_optimizing(graph, info.precision)
        )
        require_signature(session, info, path)
        return session

    def loaded(self) -> list[str]:
        """Names of the loaded graphs in the order of their first use; experts under a budget come last."""
        experts = self.experts.loaded() if self.experts is not None else []
        return [*self._sessions, *(expert_name(*expert) for expert in experts)]

    def end_profiling(self) -> dict[str, tuple[Path, int]]:
        """Each loaded graph's profile: its file, and its time 0 in nanoseconds of `time.time_ns`."""
        return {
            graph: (Path(session.end_profiling()), session.get_profiling_start_time_ns())
            for graph, session in self._sessions.items()
        }

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        require_this_process()
        expert = self._budgeted.get(graph)
        if self.experts is not None and expert is not None:
            resident = self.experts.acquire(expert)
            try:
                return resident.run(inputs)
            finally:
                self.experts.release(expert)
        session = self.session(graph)
        names = self._output_names.get(graph)
        if names is None:
            names = self._output_names[graph] = [output.name for output in session.get_outputs()]
        try:
            return dict(zip(names, session.run(names, dict(inputs)), strict=True))
        except Exception as error:
            raise engine_error(graph, error) from None

    @property
    def row_counts(self) -> RowCounts:
        return self._row_counts

    def start(self, num_rows: int) -> BoundForward:
        require_this_process()
        return BoundForward(self, num_rows, self._spares.setdefault(num_rows, []))

    def gathered(self, size: int) -> GatheredTokens:
        """The buffers for `size` gathered tokens, which all passes share."""
        found = self._gathered.get(size)
        return found or self._gathered.setdefault(size, GatheredTokens(self, size))

    def load(self, graphs: Iterable[str] | None = None) -> None:
        """Load graphs now, and as many experts as the budget holds. Their weights are put into huge pages."""
        wanted = list(graphs or language_model_graphs(self.bundle.model))
        for graph in wanted:
            if graph not in self._budgeted:
                self.session(graph)
        if self.experts is not None:
            self.experts.fill(self._budgeted[graph] for graph in wanted if graph in self._budgeted)
        elif graphs is None:
            use_huge_pages()

    def look_ahead(self) -> ExpertPrefetcher | None:
        """The prefetcher that a forward reports its picks to; None without a budget."""
        if self.experts is None:
            return None
        return ExpertPrefetcher(self.experts, self._routers, self.bundle.model)

    def residency(self) -> ExpertCacheStats | None:
        return None if self.experts is None else self.experts.statistics()

    def close(self) -> None:
        self._sessions.clear()
        self._spares.clear()
        self._gathered.clear()
        if self.experts is not None:
            self.experts.close()
        trim_heap()
