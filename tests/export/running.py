"""Runs single graphs in tests with one thread; their weights are written beside them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.onnxruntime.sessions import open_session
from unimoe_runtime.files.safetensors_writer import write_tensors


def save_values(path: Path, values: Mapping[str, NDArray[np.float32]]) -> Path:
    """Write these tensors as a safetensors file."""
    write_tensors(path, {name: value.shape for name, value in values.items()}, lambda name: [values[name]])
    return path


@lru_cache(maxsize=16)
def session(path: Path) -> Any:
    return open_session(path)


def run_graph(path: Path, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Run a written graph; returns its outputs by name."""
    opened = session(path)
    names = [output.name for output in opened.get_outputs()]
    return dict(zip(names, opened.run(names, dict(inputs)), strict=True))
