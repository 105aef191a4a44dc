"""Reading safetensors files: headers, offsets, and tensors, through a memory map or as copies.

The `safetensors` package reads bfloat16 only with a framework beside numpy, and hides the offsets that an ONNX
graph needs to refer to a tensor as external data. The format is small: 8 bytes of header length, a JSON header,
then the tensors (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.errors import ConfigError, UnimoeError
from unimoe_runtime.files.json import MAX_BYTES, parse_json
from unimoe_runtime.files.text import open_regular
from unimoe_runtime.records import Between, JsonRecord, Length

_DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U8": np.dtype("u1"), "BOOL": np.dtype("?"), "F8_E4M3": np.dtype("u1"),
}  # fmt: skip
_MAX_SIZE = 1 << 48


@dataclass(frozen=True, kw_only=True)
class _HeaderEntry(JsonRecord):
    """A tensor as a header describes it; offsets count from the header's end."""

    dtype: Literal["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL", "F8_E4M3"]
    shape: Annotated[tuple[Annotated[int, Between(0, _MAX_SIZE)], ...], Length(0, 16)]
    data_offsets: tuple[Annotated[int, Between(0, _MAX_SIZE)], Annotated[int, Between(0, _MAX_SIZE)]]


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """Where one tensor lies in its file. `offset` counts from the start of the file, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    num_bytes: int


class TensorFile:
    """One safetensors file, opened without reading any tensor.

    Raises `error` (a kind of UnimoeError) if the file is missing, is not a safetensors file, or is shorter than its
    header says.
    """

    def __init__(self, path: Path, error: type[UnimoeError] = UnimoeError) -> None:
        self.path = path
        self._error = error
        self.entries = _read_header(path, error)
        self._map: np.memmap[Any, np.dtype[np.uint8]] | None = None

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def raw(self, name: str) -> NDArray[Any]:
        """The tensor as stored, a view of the map; bfloat16 as its bits in uint16, float8 as its bits in uint8."""
        entry = self.entries.get(name)
        if entry is None:
            raise self._error(f"{self.path}: there is no tensor {name!r}")
        if self._map is None:
            self._map = np.memmap(self.path, dtype=np.uint8, mode="r")
        flat = self._map[entry.offset : entry.offset + entry.num_bytes]
        return flat.view(_DTYPES[entry.dtype]).reshape(entry.shape)

    def require_finite(self, name: str) -> None:
        """Raise the file's error if a floating-point tensor holds a NaN or an infinite number."""
        if not is_finite(self.read(name), self.entries[name].dtype):
            raise self._error(f"{self.path}: the tensor {name!r} holds values that are not numbers (NaN or infinite)")

    def fetch(self) -> None:
        """Read the whole file into the map; parts that are not in memory come from the disk."""
        if self._map is not None and isinstance(self._map.base, mmap.mmap):
            self._map.base.madvise(mmap.MADV_WILLNEED)
            self._map[:: mmap.PAGESIZE].max(initial=0)

    def forget(self) -> None:
        """Give the map's pages back to the system. Views stay valid; the next access reads the file again."""
        if self._map is not None and isinstance(self._map.base, mmap.mmap):
            self._map.base.madvise(mmap.MADV_DONTNEED)

    def float32(self, name: str) -> NDArray[np.float32]:
        """The tensor as float32; a view of the map if it is stored as float32, else a converted copy."""
        return widen(self.raw(name), self.entries[name].dtype)

    def read(self, name: str, begin: int = 0, end: int | None = None) -> NDArray[Any]:
        """Rows begin … end of the tensor's first axis as `raw` gives them, as a copy.

        Pages of a map stay in this process's memory after an access; a copy is freed when it is dropped.
        """
        entry = self.entries[name]
        num_rows = entry.shape[0] if entry.shape else 1
        end = num_rows if end is None else min(end, num_rows)
        shape = (end - begin, *entry.shape[1:]) if entry.shape else ()
        row_bytes = entry.num_bytes // max(num_rows, 1)
        try:
            flat = np.fromfile(
                self.path, dtype=_DTYPES[entry.dtype], count=math.prod(shape), offset=entry.offset + begin * row_bytes
            )
        except OSError as error:
            raise self._error(f"{self.path}: cannot be read ({error.strerror})") from None
        if flat.size != math.prod(shape):
            raise self._error(f"{self.path}: cut off while it was read: tensor {name!r} is incomplete")
        return flat.reshape(shape)

    def rows(self, name: str) -> Callable[[Any], NDArray[np.float32]]:
        """A function that reads an embedding's rows by an array of indices, as float32 copies, and no other rows."""
        # A plain view, because indexing a memmap makes another memmap, which takes longer to make than to fill.
        table, dtype = np.asarray(self.raw(name)), self.entries[name].dtype
        return lambda index: widen(table[index], dtype)


def item_bytes(dtype: str) -> int:
    """Bytes of one value of a safetensors type."""
    return _DTYPES[dtype].itemsize


def widen(stored: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """float32 of values stored as `dtype`. Bits of bfloat16, held as uint16, are the upper half of a float32."""
    if dtype == "BF16":
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.asarray(stored, dtype=np.float32)


def is_finite(stored: NDArray[Any], dtype: str) -> bool:
    """Whether all stored values are finite. Integers always are."""
    if dtype == "BF16":
        return not bool(((stored & np.uint16(0x7F80)) == 0x7F80).any())
    if dtype == "F8_E4M3":
        return not bool(((stored & np.uint8(0x7F)) == 0x7F).any())
    return bool(np.isfinite(stored).all())


def encode(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Values as `dtype` stores them; F32, F16 and BF16 are rounded to nearest, ties to even.

    Values that are already in the stored type (float16, or bfloat16 bits as uint16) pass unchanged.
    Raises OverflowError if a finite value exceeds float16's largest, 65504.
    """
    if dtype == "BF16":
        if values.dtype == np.uint16:
            return values
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        half_even = ((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF)
        rounded = ((bits + half_even) >> np.uint32(16)).astype(np.uint16)
        return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)
    if dtype == "F16" and values.dtype != np.float16:
        with np.errstate(over="ignore"):
            half = np.asarray(values, dtype=np.float16)
        if np.isinf(half).any() and np.isfinite(values[np.isinf(half)]).any():
            raise OverflowError("a value is beyond float16's largest, 65504")
        return half
    return np.asarray(values, dtype=_DTYPES[dtype])


def _read_header(path: Path, error: type[UnimoeError]) -> dict[str, TensorEntry]:
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if not 2 <= length <= size - 8:
                raise error(f"{path}: not a safetensors file, or cut off inside its header; copy it again")
            if length > MAX_BYTES:
                raise error(f"{path}: its header is too large: it has {length} bytes")
            text = file.read(length)
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror})") from None
    header = parse_json(text, f"{path}, header", error)
    if not isinstance(header, dict):
        raise error(f"{path}: not a safetensors file, its header is not a JSON object")
    header.pop("__metadata__", None)
    entries: dict[str, TensorEntry] = {}
    for name, described in header.items():
        try:
            field = _HeaderEntry.from_dict(described)
        except ConfigError as problem:
            raise error(
                f"{path}: tensor {name!r:.80} has a damaged header entry or an unknown type ({problem})"
            ) from None
        dtype, shape, (begin, end) = field.dtype, field.shape, field.data_offsets
        expected = math.prod(shape) * _DTYPES[dtype].itemsize
        if end - begin != expected or math.prod(max(1, axis) for axis in shape) > _MAX_SIZE:
            raise error(
                f"{path}: tensor {name!r:.80} has {end - begin} bytes where its shape {list(shape)} needs {expected}"
            )
        if 8 + length + end > size:
            raise error(
                f"{path}: cut off: tensor {name!r:.80} ends at byte {8 + length + end}, the file has {size}; "
                "copy it again"
            )
        entries[name] = TensorEntry(dtype=dtype, shape=shape, offset=8 + length + begin, num_bytes=end - begin)
    return entries
