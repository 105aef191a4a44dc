"""ONNX Runtime's sessions: opening one, the process's one thread pool, and returning freed memory to the system."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict, Unpack

import onnxruntime as ort

from unimoe_runtime.backends.failures import engine_failure
from unimoe_runtime.bundle.manifest import GraphInfo
from unimoe_runtime.errors import BackendError, BundleError, UnimoeError
from unimoe_runtime.hardware.system import available_cores

CPU_ONLY = ("CPUExecutionProvider",)

# The ONNX attribute of `Cast` to float16, bfloat16 and float32 as bytes of the file: AttributeProto name "to",
# i = the number of the element type, type = INT.
_CAST_TO_HALF = {"float16": b"\n\x02to\x18\x0a\xa0\x01\x02", "bfloat16": b"\n\x02to\x18\x10\xa0\x01\x02"}
_CAST_TO_FLOAT = b"\n\x02to\x18\x01\xa0\x01\x02"

# A session with its own pool spins its own threads: 73 sessions on two cores were 50 times slower than one global
# pool. ONNX Runtime lets a process set that pool only once, so its size is kept here.
_pool_threads: int | None = None
_pool_process = 0
_TYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(bfloat16)": "bfloat16", "tensor(bool)": "bool",
    "tensor(double)": "float64", "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
}  # fmt: skip


def use_global_pool(threads: int) -> None:
    """Set the process's pool. Raises BackendError for more threads than a machine could use, or for a second size."""
    global _pool_threads, _pool_process
    require_this_process()
    most = max(64, 4 * available_cores())
    if not 1 <= threads <= most:
        raise BackendError(f"threads is {threads}; it must be from 1 to {most} on this machine")
    if _pool_threads is None:
        ort.set_global_thread_pool_sizes(threads, 1)
        _pool_threads, _pool_process = threads, os.getpid()
        _share_arena()
        _return_freed_memory()
    elif _pool_threads != threads:
        raise BackendError(
            f"ONNX Runtime's thread pool has {_pool_threads} threads and can be set once a process; "
            f"start a new process for {threads}"
        )


def require_this_process() -> None:
    """Raise BackendError in a process that was forked after ONNX Runtime had started: the fork lacks its threads."""
    if _pool_threads is not None and _pool_process != os.getpid():
        raise BackendError(
            "ONNX Runtime was started before this process was forked, and its threads are in the other one: open "
            'bundles after the fork, or start processes with the method "spawn"'
        )


def name_of(session: Any) -> str:
    """The file of a session's graph, for messages."""
    path = getattr(session, "_model_path", None)
    return "/".join(Path(path).parts[-3:]) if path else "a graph of the bundle"


def engine_error(graph: object, error: Exception) -> UnimoeError:
    """`engine_failure` of ONNX Runtime."""
    return engine_failure(graph, "ONNX Runtime", error)


def require_signature(session: Any, info: GraphInfo, path: Path) -> None:
    """Raise BundleError if a graph's inputs or outputs differ from the manifest."""
    for side, values, tensors in (
        ("input", session.get_inputs(), info.inputs),
        ("output", session.get_outputs(), info.outputs),
    ):
        found = {value.name: (_TYPES.get(value.type, value.type), _shape(value.shape)) for value in values}
        said = {tensor.name: (tensor.dtype, _shape(tensor.shape)) for tensor in tensors}
        for name in {**said, **found}:
            if found.get(name) != said.get(name):
                raise BundleError(
                    f"{path}: the {side} {name} is {found.get(name, 'not there')}, the manifest says "
                    f"{said.get(name, 'nothing of it')}; export the bundle again"
                )


def _shape(sizes: Sequence[Any]) -> tuple[int | None, ...]:
    """A shape's sizes; None for a dimension that varies."""
    return tuple(size if isinstance(size, int) else None for size in sizes)


def pool_threads() -> int | None:
    """Threads of the process's pool; None before it is set."""
    return _pool_threads


def _share_arena() -> None:
    """Give the process one arena for activations.

    Sessions that run in turn then reuse the same memory, which is still in the CPU's cache. With an arena for each
    session, each trunk would also keep the memory of the longest prompt.
    """
    arena = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(arena, None)


def _return_freed_memory() -> None:
    """Make glibc return blocks of a megabyte and more to the system when they are freed, for the whole process.

    By default glibc raises that limit to twice the largest freed block, here a codec's weights, and keeps as much in
    the heap of every thread that ever made a session: bundles opened and closed in turn took 114 MB instead of 65.
    """
    with suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        for threshold in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD (malloc.h)
            mallopt(threshold, 1 << 20)


class SessionOptions(TypedDict, total=False):
    """`profile` turns ONNX Runtime's profiler on; it is the prefix of the profile's file name. With `optimize` False
    the graph runs as written. The session's memory comes from the process's arena, with `arena` False from malloc."""

    profile: Path | None
    optimize: bool
    arena: bool


def open_session(
    path: os.PathLike[str],
    providers: Sequence[str] = CPU_ONLY,
    precision: str = "float32",
    *,
    content: bytes | None = None,
    **options_given: Unpack[SessionOptions],
) -> Any:
    """An InferenceSession on the process's one pool. Raises BackendError, one line, if the graph is refused.

    `content` is a graph to use instead of the file's, over the same weights.

    In a graph of 16-bit `precision` the casts set the type of its products. The CPU provider has no bfloat16 product,
    and no float16 product that is faster than float32. There the casts are set to float32 when the graph is read, and
    ONNX Runtime widens the weights once, when the session is made.
    """
    if _pool_threads is None:
        use_global_pool(available_cores())
    options = ort.SessionOptions()
    options.use_per_session_threads = False
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = options_given.get("arena", True)
    if options.enable_cpu_mem_arena and tuple(providers) == CPU_ONLY:
        options.add_session_config_entry("session.use_env_allocators", "1")
        # Weights stay outside the arena, so that closing the session gives their memory back.
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    if not options_given.get("optimize", True):
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    profile = options_given.get("profile")
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
        raise engine_error(path, error) from None


def trim_heap() -> None:
    """Make the C library return freed memory to the system: sessions leave holes in its heap."""
    with suppress(AttributeError, OSError):  # not glibc: it keeps its freed memory
        ctypes.CDLL(None).malloc_trim(0)


def needs_optimizing(graph: str, precision: str) -> bool:
    """Whether ONNX Runtime has to optimize a graph when it loads it.

    The graph of a float32 expert is written in its final form: unoptimized it is as fast, gives the same bits and loads
    in two thirds of the time, which matters when experts are loaded and dropped.
    """
    return ".expert." not in graph or precision != "float32"
