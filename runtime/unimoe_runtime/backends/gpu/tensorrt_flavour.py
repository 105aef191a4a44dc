"""Where TensorRT and TensorRT-RTX differ."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

from unimoe_runtime.bundle.engine_sets import EngineSet
from unimoe_runtime.bundle.engine_trust import is_trusted, trust
from unimoe_runtime.files.atomic import atomic_file

_RUNTIME_CACHE = "runtime.cache"


class Flavour:
    """The differences between the flavours: how a context is made, and who captures.

    TensorRT-RTX compiles kernels on the GPU at first use, first general ones, then ones for the shapes in use. A
    capture from outside would keep the general kernels. TensorRT-RTX captures by itself once the others are ready
    (`cuda_graph_strategy`), and keeps compiled kernels in a cache that is saved to a file for the next process.
    """

    def __init__(self, trt: Any, engine_set: EngineSet, *, graphs: bool) -> None:
        self._trt, self._graphs = trt, graphs
        self.is_rtx = engine_set.flavour == "tensorrt-rtx"
        self.captures = graphs and not self.is_rtx
        self._cache: Any = None
        self._cache_file = engine_set.path / _RUNTIME_CACHE

    def context(self, engine: Any, *, replayed: bool) -> Any:
        """A new execution context; None if the library refuses it. `replayed`: its calls are repeated unchanged."""
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not self.is_rtx:
            return engine.create_execution_context(strategy)
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        strategies = self._trt.CudaGraphStrategy
        replays = replayed and self._graphs
        config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE if replays else strategies.DISABLED
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            with suppress(OSError):  # the library refuses one of another driver or GPU; it is replaced at the end
                content = self._cache_file.read_bytes()
                if is_trusted(hashlib.sha256(content).hexdigest()):  # otherwise kernels are compiled again
                    self._cache.deserialize(content)
        config.set_runtime_cache(self._cache)
        return engine.create_execution_context(runtime_config=config)

    def close(self) -> None:
        content = None if self._cache is None else self._cache.serialize()
        self._cache = None
        if content is None:
            return
        with suppress(OSError):  # the bundle may be read-only: the next process compiles again
            with atomic_file(self._cache_file) as partial:
                partial.write_bytes(content)
            trust(hashlib.sha256(content).hexdigest())
