"""TensorRT-RTX, TensorRT 10 and TensorRT 11: one Python API but for what stands here.

TensorRT-RTX builds for compute capabilities that are named, ahead of time, with no GPU; its timing cache does nothing.
TensorRT builds for the GPU at hand, and times its kernels there: one build at a time, and a timing cache kept between
them. TensorRT 11 knows strongly typed networks only, TensorRT 10 has to be asked for them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unimoe_runtime.backends.gpu.tensorrt_library import load_library
from unimoe_runtime.errors import EngineError
from unimoe_runtime.hardware.probes import gpus_here

Capabilities = Sequence[tuple[int, int]]


class Toolkit:
    """One flavour, imported. `trt`: its module; `version`: as the library gives it, what an engine is bound to.

    `log`: the process's only logger, because TensorRT keeps the first one for good. Raises BackendError where the
    flavour is not installed or too old.
    """

    def __init__(self, flavour: str) -> None:
        self.flavour = flavour
        self.trt = load_library(flavour)
        self.version = str(self.trt.__version__)
        self.log = _logger(self.trt)

    def require_machine(self, capabilities: Capabilities) -> None:
        """Whether it can build for these here. Raises EngineError."""
        if self.flavour == "tensorrt-rtx":
            known = self.trt.ComputeCapability.__members__
            for major, minor in capabilities:
                if f"SM{major}{minor}" not in known:
                    raise EngineError(
                        f"tensorrt-rtx does not build for compute capability {major}.{minor}; build "
                        "on the device with --flavour tensorrt"
                    )
            return
        here = gpus_here()
        if not here.gpus:
            raise EngineError(f"tensorrt builds on the device itself, here is no GPU ({here.problem})")
        gpu = here.gpus[0]
        if list(capabilities) != [gpu.compute_capability]:
            raise EngineError(
                f"tensorrt builds for the GPU at hand, and this one ({gpu.name}) has compute "
                f"capability {'{}.{}'.format(*gpu.compute_capability)}; build on the device"
            )

    @property
    def builds_at_once(self) -> bool:
        """Whether several builds may run side by side: not where kernels are timed."""
        return self.flavour == "tensorrt-rtx"

    def create_network(self, builder: Any) -> Any:
        """A strongly typed network: every tensor has the type that the graph says."""
        flag = self.trt.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
        return builder.create_network(0 if flag is None else 1 << int(flag))

    def aim(self, config: Any, capabilities: Capabilities, timing_cache: Path) -> None:
        """Set what the engine is for, and take up the timings of earlier builds."""
        if self.flavour == "tensorrt-rtx":
            config.num_compute_capabilities = len(capabilities)
            for index, (major, minor) in enumerate(capabilities):
                config.set_compute_capability(getattr(self.trt.ComputeCapability, f"SM{major}{minor}"), index)
            # Nothing is allocated while it runs, so that its launches can be captured in a CUDA graph.
            config.set_flag(self.trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        else:
            known = timing_cache.read_bytes() if timing_cache.is_file() else b""
            config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)

    def keep_timings(self, config: Any, timing_cache: Path) -> None:
        """After a build: the timings, for the builds to come."""
        if self.flavour == "tensorrt":
            fresh = timing_cache.with_suffix(".new")
            fresh.write_bytes(bytes(config.get_timing_cache().serialize()))
            fresh.replace(timing_cache)


@functools.cache
def open_flavour(flavour: str) -> Toolkit:
    """The flavour of that name, imported once a process."""
    return Toolkit(flavour)


def _logger(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps every line with its severity: a DETAILED engine tells its layers in them."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[tuple[str, str]] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines.append((severity.name, message))

    return Log()
