"""TensorRT-RTX, TensorRT 10 and TensorRT 11: one Python API except for the differences in this module.

Engines are built by Polygraphy's loaders, with our options in addition.

TensorRT-RTX builds ahead of time for named compute capabilities, without a GPU; its timing cache has no effect.
TensorRT builds for the local GPU and times its kernels there: one build at a time, with a timing cache kept between
builds. TensorRT 11 has only strongly typed networks; TensorRT 10 must be asked for them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unimoe_runtime.backends.gpu.tensorrt_library import load_library
from unimoe_runtime.errors import EngineError
from unimoe_runtime.hardware.probes import gpus_here

from .polygraphy_library import Polygraphy, load_polygraphy

Capabilities = Sequence[tuple[int, int]]
Shape = tuple[int, ...]
Shapes = tuple[Shape, Shape, Shape]
"""Smallest, usual and largest."""
Adjust = Callable[[Any, Any], object]
"""Receives TensorRT's builder and configuration."""


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

    def build(
        self,
        path: Path,
        capabilities: Capabilities,
        shapes: Mapping[str, Shapes],
        timing_cache: Path,
        adjust: Adjust | None = None,
    ) -> Any:
        """The serialized engine of the graph at `path`, by Polygraphy's loaders. Raises EngineError on failure.

        `shapes`: smallest, usual and largest shape of each input that varies. TensorRT's lines go to `log`.
        """
        polygraphy = load_polygraphy(self.flavour)
        polygraphy.trt.util.TRT_LOGGER = self.log

        def finish(builder: Any, network: Any, config: Any) -> None:
            config.clear_flag(self.trt.BuilderFlag.TF32)  # the router needs full float32
            if self.flavour == "tensorrt-rtx":
                # The engine allocates nothing while it runs, so that a CUDA graph can capture its launches.
                config.set_flag(self.trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
            if adjust is not None:
                adjust(builder, config)

        with polygraphy.silence(), _as_engine_error(polygraphy):
            network = polygraphy.trt.NetworkFromOnnxPath(str(path), strongly_typed=self._has_typed_networks or None)
            if "ATTENTION_INPUT" in self.trt.LayerType.__members__:  # float32 has no fused kernel for attention
                network = polygraphy.trt.SetDecomposableAttentions(network)
            settings = self._settings(polygraphy, capabilities, shapes, timing_cache)
            engine = polygraphy.trt.EngineBytesFromNetwork(
                network,
                config=polygraphy.trt.PostprocessConfig(settings, finish),
                save_timing_cache=None if self.builds_at_once else str(timing_cache),
            )
            return engine()

    def _settings(
        self, polygraphy: Polygraphy, capabilities: Capabilities, shapes: Mapping[str, Shapes], timing_cache: Path
    ) -> Any:
        """Polygraphy's loader of the builder's configuration."""
        # One profile: a second one enlarges an expert's engine by the size of its weights.
        profile = polygraphy.trt.Profile()
        for name, (smallest, usual, largest) in shapes.items():
            profile.add(name, min=smallest, opt=usual, max=largest)
        common = {
            "profiles": [profile],
            "profiling_verbosity": self.trt.ProfilingVerbosity.DETAILED,
            "max_aux_streams": 0,  # the host loop has one stream
        }
        if self.flavour == "tensorrt-rtx":
            return polygraphy.rtx.CreateConfigRTX(compute_capabilities=list(capabilities), **common)
        known = str(timing_cache) if timing_cache.is_file() else None
        return polygraphy.trt.CreateConfig(load_timing_cache=known, **common)

    @property
    def _has_typed_networks(self) -> bool:
        """Whether strongly typed networks must be requested: every tensor has the type that the graph states."""
        return "STRONGLY_TYPED" in self.trt.NetworkDefinitionCreationFlag.__members__


@contextmanager
def _as_engine_error(polygraphy: Polygraphy) -> Iterator[None]:
    try:
        yield
    except polygraphy.error as error:
        raise EngineError(str(error).splitlines()[0]) from None


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
