"""TensorRT-RTX, TensorRT 10 and TensorRT 11: one Python API except for the differences in this module.

TensorRT-RTX builds ahead of time for named compute capabilities, without a GPU; its timing cache has no effect.
TensorRT builds for the local GPU and times its kernels there: one build at a time, with a timing cache kept between
builds. TensorRT 11 has only strongly typed networks; TensorRT 10 must be asked for them.
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
    """One flavour, imported. `trt`: its module; `version`: as the library reports it; engines are bound to it.

    `log`: the process's only logger, because TensorRT keeps the first one for good. Raises BackendError where the
    flavour is not installed or too old.
    """

    def __init__(self, flavour: str) -> None:
        self.flavour = flavour
        self.trt = load_library(flavour)
        self.version = str(self.trt.__version__)
        self.log = _logger(self.trt)

    def require_machine(self, capabilities: Capabilities) -> None:
        """Raises EngineError where this machine cannot build for these compute capabilities."""
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
        """Whether several builds may run at the same time: not where the builder times kernels."""
        return self.flavour == "tensorrt-rtx"

    def create_network(self, builder: Any) -> Any:
        """A strongly typed network: every tensor has the type that the graph states."""
        flag = self.trt.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
        return builder.create_network(0 if flag is None else 1 << int(flag))

    def aim(self, config: Any, capabilities: Capabilities, timing_cache: Path) -> None:
        """Set the engine's target, and load the timings of earlier builds."""
        if self.flavour == "tensorrt-rtx":
            config.num_compute_capabilities = len(capabilities)
            for index, (major, minor) in enumerate(capabilities):
                config.set_compute_capability(getattr(self.trt.ComputeCapability, f"SM{major}{minor}"), index)
            # The engine allocates nothing while it runs, so that a CUDA graph can capture its launches.
            config.set_flag(self.trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        else:
            known = timing_cache.read_bytes() if timing_cache.is_file() else b""
            config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)

    def keep_timings(self, config: Any, timing_cache: Path) -> None:
        """After a build: save the timings for later builds."""
        if self.flavour == "tensorrt":
            fresh = timing_cache.with_suffix(".new")
            fresh.write_bytes(bytes(config.get_timing_cache().serialize()))
            fresh.replace(timing_cache)


@functools.cache
def open_flavour(flavour: str) -> Toolkit:
    """The flavour of that name, imported once per process."""
    return Toolkit(flavour)


def _logger(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps every line with its severity: with DETAILED verbosity they describe the engine's layers."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[tuple[str, str]] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines.append((severity.name, message))

    return Log()
