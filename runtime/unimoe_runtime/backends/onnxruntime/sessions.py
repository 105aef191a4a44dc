"""ONNX Runtime's sessions: how one is opened, the process's one thread pool, and what is given back to the system."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from unimoe_runtime.errors import BackendError
from unimoe_runtime.install import install_command

try:
    import onnxruntime as ort
except ImportError:
    raise BackendError(f"ONNX Runtime is not installed: `{install_command('cpu')}`") from None

# A session with a pool of its own spins its own threads: 73 sessions on two cores were 50 times slower than one
# global pool. ONNX Runtime lets a process set that pool once, so it is remembered here.
_pool_threads: int | None = None


def use_global_pool(threads: int) -> None:
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


def pool_threads() -> int | None:
    """Threads of the process's pool; None before it is set."""
    return _pool_threads


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
        use_global_pool(len(os.sched_getaffinity(0)))
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
    except Exception as error:
        raise BackendError(f"{path}: ONNX Runtime refuses it: {str(error).splitlines()[0]}") from None


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
