"""Writing a safetensors file tensor by tensor, so that memory holds one block of one tensor at a time.

The header is known from names and shapes and is written first; the data follow in that order, without holes
(https://github.com/huggingface/safetensors#format). Data begin at a multiple of 64 bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_ALIGNMENT = 64


def write_tensors(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], Iterable[NDArray[np.float32]]],
) -> None:
    """Write float32 tensors in the order of `shapes`.

    `read(name)` gives a tensor as blocks along its first axis, one after the other; they are written as they come.
    Raises ValueError where the blocks do not add up to the shape, OSError where the disk does not take them.
    """
    header: dict[str, object] = {}
    begin = 0
    for name, shape in shapes.items():
        end = begin + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for name, shape in shapes.items():
            num_values = 0
            for block in read(name):
                array = np.ascontiguousarray(block, dtype="<f4")
                num_values += array.size
                file.write(array.data)
            if num_values != prod(shape):
                raise ValueError(f"{path}: {name} came with {num_values} values, its shape {list(shape)} has others")
