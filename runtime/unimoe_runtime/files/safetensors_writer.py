"""Writing a safetensors file tensor by tensor, so that memory holds one block of one tensor at a time.

The header depends only on names and shapes and is written first. The data follow in that order, without gaps
(https://github.com/huggingface/safetensors#format), and begin at a multiple of 64 bytes. The file is hashed while it
is written, so that it need not be read again.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.files.hashes import FileInfo
from unimoe_runtime.files.safetensors_reader import encode, item_bytes

_ALIGNMENT = 64
# Number of values that are converted at a time.
_BLOCK_VALUES = 1 << 20


def write_tensors(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], Iterable[NDArray[Any]]],
    dtypes: Mapping[str, str] | None = None,
) -> FileInfo:
    """Write tensors in the order of `shapes`; returns the size and SHA-256 of the file.

    `read(name)` gives a tensor as consecutive blocks along its first axis; each is written as it arrives.
    `dtypes` gives a tensor's stored type (any type of safetensors); the default is F32. A block has the stored type
    (bfloat16 as uint16 bits, F8_E4M3 as uint8 bits), or float32 for F32, F16 and BF16.
    Raises ValueError if the blocks do not add up to the shape, OverflowError for a value that float16 cannot hold,
    OSError if the disk cannot take them.
    """
    dtypes = dtypes or {}
    header: dict[str, object] = {}
    begin = 0
    for name, shape in shapes.items():
        dtype = dtypes.get(name, "F32")
        end = begin + item_bytes(dtype) * prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    prefix = struct.pack("<Q", len(text)) + text
    sha256 = hashlib.sha256(prefix)
    with path.open("wb") as file:
        file.write(prefix)
        for name, shape in shapes.items():
            num_values = 0
            for block in read(name):
                num_values += block.size
                try:
                    for part in _pieces(block):
                        array = np.ascontiguousarray(encode(part, dtypes.get(name, "F32")))
                        file.write(array.data)
                        sha256.update(array.data)
                except OverflowError as error:
                    raise OverflowError(f"{name}: {error}") from None
            if num_values != prod(shape):
                raise ValueError(f"{path}: {name} came with {num_values} values, its shape {list(shape)} has others")
    return FileInfo(bytes=len(prefix) + begin, sha256=sha256.hexdigest())


def _pieces(block: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The block in runs of rows of about `_BLOCK_VALUES` values."""
    if block.ndim == 0 or block.size <= _BLOCK_VALUES:
        yield block
        return
    rows = max(1, _BLOCK_VALUES * len(block) // block.size)
    for begin in range(0, len(block), rows):
        yield block[begin : begin + rows]
