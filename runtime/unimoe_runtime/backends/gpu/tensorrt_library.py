"""Loads the Python modules of TensorRT and TensorRT-RTX, which share one API, for building and running engines."""

from __future__ import annotations

import importlib
from typing import Any

from unimoe_runtime.errors import BackendError
from unimoe_runtime.hardware.targets import MIN_TENSORRT
from unimoe_runtime.install import install_command

_MODULES = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}


def _advice(flavour: str) -> str:
    if flavour == "tensorrt-rtx":
        return f"`{install_command('tensorrt-rtx')}` (Linux on x86-64)"
    return "on a Jetson it comes with JetPack 7.2 or later (python3-libnvinfer), elsewhere `pip install tensorrt`"


def load_library(flavour: str) -> Any:
    """The module of a flavour. Raises BackendError if it is not installed or too old for our graphs."""
    try:
        trt = importlib.import_module(_MODULES[flavour])
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BackendError(f"{flavour} cannot be loaded ({reason}); {_advice(flavour)}") from None
    version = str(trt.__version__)
    if flavour == "tensorrt" and tuple(map(int, version.split(".")[:2])) < MIN_TENSORRT:
        wanted = ".".join(map(str, MIN_TENSORRT))
        raise BackendError(
            f"tensorrt {version} does not know our graphs' operators, they need {wanted}; {_advice(flavour)}"
        )
    return trt
