"""The one factory of backends. An engine is imported only inside its branch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, Unpack

from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.errors import BackendError

BACKENDS = ("onnxruntime", "numpy", "onnxruntime-cuda", "tensorrt")


class BackendOptions(TypedDict, total=False):
    """The options of `open_backend` besides a name and a bundle."""

    threads: int | None
    providers: Sequence[str] | None
    memory_budget_bytes: int | None
    target: str | None


class _Options(BackendOptions, total=False):
    lanes: bool


def open_backend(name: str, bundle: Bundle, **options: Unpack[_Options]) -> Backend:
    """The backend of that name over a bundle.

    `threads`, `providers` and `memory_budget_bytes` are for onnxruntime. None means all cores, the CPU provider, and
    no budget: experts stay loaded. The budget limits the memory of loaded experts (`residency`) and nothing else.
    With `lanes`, and without `threads`, a small model's cores serve several callers at once (`Backend.lanes`).
    `target` is for tensorrt and names one of the bundle's engine sets. None takes the one that fits this GPU.
    Raises BackendError for an unknown name, an engine that is not installed, or a budget that cannot be kept;
    EngineError for engines that are not built or do not fit.
    """
    if options.get("memory_budget_bytes") is not None and name != "onnxruntime":
        raise BackendError(f"the {name} backend keeps no memory budget; run with --backend onnxruntime")
    match name:
        case "numpy":
            from unimoe_runtime.backends.numpy.backend import NumpyBackend

            return NumpyBackend(bundle)
        case "onnxruntime":
            from unimoe_runtime.backends.onnxruntime.backend import OnnxRuntimeBackend

            return OnnxRuntimeBackend(
                bundle,
                threads=options.get("threads"),
                providers=options.get("providers"),
                memory_budget_bytes=options.get("memory_budget_bytes"),
                lanes=options.get("lanes", False),
            )
        case "onnxruntime-cuda":
            from unimoe_runtime.backends.gpu.onnxruntime_engines import open_onnxruntime_cuda

            return open_onnxruntime_cuda(bundle)
        case "tensorrt":
            from unimoe_runtime.backends.gpu.tensorrt_engines import open_tensorrt

            return open_tensorrt(bundle, options.get("target"))
    raise BackendError(f"there is no backend {name!r}; choose one of {', '.join(BACKENDS)}")
