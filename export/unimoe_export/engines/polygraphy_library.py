"""Loads Polygraphy for one flavour of TensorRT. Polygraphy chooses the flavour once a process, when it is imported."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from unimoe_runtime.backends.gpu.tensorrt_library import load_library
from unimoe_runtime.errors import EngineError
from unimoe_runtime.install import install_command


@dataclass(frozen=True, kw_only=True)
class Polygraphy:
    """`trt`, `rtx`: its modules of loaders; `error`: what they raise; `logger`: what they tell a terminal."""

    trt: Any
    rtx: Any
    error: type[Exception]
    logger: Any

    def silence(self) -> AbstractContextManager[Any]:
        """A context without lines on the terminal. TensorRT's own lines have another logger."""
        silent: AbstractContextManager[Any] = self.logger.verbosity(self.logger.CRITICAL + 1)
        return silent


def require_polygraphy() -> None:
    """Raises EngineError where Polygraphy is not installed. Imports nothing."""
    if find_spec("polygraphy") is None:
        raise EngineError(
            f"engines are built through Polygraphy, which is not installed: `{install_command('export')}`"
        )


@functools.cache
def load_polygraphy(flavour: str) -> Polygraphy:
    """Polygraphy's loaders for that flavour. Raises EngineError where they are missing or serve another flavour."""
    require_polygraphy()
    from polygraphy import config

    before = config.USE_TENSORRT_RTX
    config.USE_TENSORRT_RTX = flavour == "tensorrt-rtx"
    from polygraphy.backend import tensorrt_rtx, trt
    from polygraphy.exception import PolygraphyException
    from polygraphy.logger import G_LOGGER

    loaded, wanted = trt.util.trt.__name__, load_library(flavour).__name__
    if loaded != wanted:
        config.USE_TENSORRT_RTX = before
        raise EngineError(f"this process has loaded Polygraphy for {loaded}: start another process for {wanted}")
    return Polygraphy(trt=trt, rtx=tensorrt_rtx, error=PolygraphyException, logger=G_LOGGER)
