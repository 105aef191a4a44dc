"""Weights [K, N] (inputs, outputs) in 8 or 4 bits, in the layouts of the engines' operators.

K inputs · N outputs · G blocks of inputs · Z values of a block
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .schemes import LARGEST, Engine, Scheme

Floats = NDArray[np.float32]

# Sizes of blocks of inputs that share a scale, the best first. Larger blocks are faster (benchmarks/int8_forms.py).
# They are as large as ONNX Runtime allows without loss of bit equality: from 128 inputs on in 8 bits, and from 64 on in
# 4 bits, the last row of an odd number of rows is summed in another order.
_BLOCKS = {8: (64, 32), 4: (32, 64)}
# The share of a weight's inputs that the padding of its last block may add.
_MOST_PADDING = 1 / 16
# Clipping the largest weights of a 4-bit block gives the others a finer grid; the best of these clips is taken.
_CUTS = np.linspace(1.0, 0.7, 13, dtype=np.float32)

_AT_ONCE = 1 << 17  # weights whose codes are computed together: half a megabyte
_FEW_COLUMNS = 32


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor of a graph as it lies in its file: `values` of the safetensors type `dtype`, which the graph reads as
    the ONNX type `onnx_type` (an onnx.TensorProto.DataType by name) in `shape`."""

    values: NDArray[Any]
    dtype: str
    onnx_type: str
    shape: tuple[int, ...]


def stored(values: NDArray[Any], dtype: str, onnx_type: str, shape: tuple[int, ...] | None = None) -> StoredTensor:
    values = np.ascontiguousarray(values)
    return StoredTensor(values=values, dtype=dtype, onnx_type=onnx_type, shape=shape or values.shape)


def floats(values: Floats) -> StoredTensor:
    return stored(np.asarray(values, np.float32), "F32", "FLOAT")


@dataclass(frozen=True, kw_only=True)
class QuantizedWeight:
    """A weight's codes and scales. `block`: the number of inputs that share a scale, None for one scale for each
    column. `shape` is the weight's own, [K, N]."""

    shape: tuple[int, int]
    codes: StoredTensor
    scales: StoredTensor
    block: int | None = None


def quantize_weight(weight_KN: Floats, scheme: Scheme, engine: Engine, *, block: int | None = None) -> QuantizedWeight:
    """The codes of a weight in one scheme, laid out for an engine's operator (`graphs.py` names them).

    `block`: the number of inputs that share a scale, for schemes with blocks; None takes the best for the weight.
    """
    match scheme, engine:
        case Scheme.W8A8, _:
            return _int8_columns(weight_KN)
        case Scheme.FP8, _:
            return _float8_columns(weight_KN)
        case Scheme.W8, Engine.TENSORRT:
            return _int8_columns(weight_KN)
        case Scheme.W8, Engine.ONNXRUNTIME:
            return _packed_blocks(weight_KN, 8, block)
        case Scheme.W4, Engine.ONNXRUNTIME:
            return _packed_blocks(weight_KN, 4, block)
        case Scheme.W4, Engine.TENSORRT:
            return _int4_rows(weight_KN, block)
    raise ValueError(f"a weight of scheme {scheme} has no codes")


def arbitrary_weight(weight_KN: Floats, scheme: Scheme, engine: Engine) -> QuantizedWeight:
    """As `quantize_weight`, but the codes of the first columns stand for all of them. For ONNX Runtime."""
    few = quantize_weight(weight_KN[:, :_FEW_COLUMNS], scheme, engine)
    of_columns = -1 if scheme == Scheme.W8A8 else 0
    codes, scales = (_extended(one, of_columns, weight_KN.shape[1]) for one in (few.codes, few.scales))
    return replace(few, shape=weight_KN.shape, codes=codes, scales=scales)


def _extended(tensor: StoredTensor, axis: int, length: int) -> StoredTensor:
    """The tensor with its values over and over along an axis."""
    shape = list(tensor.shape)
    shape[axis] = length
    return stored(np.resize(tensor.values, shape), tensor.dtype, tensor.onnx_type)


def dequantize_weight(weight_KN: Floats, scheme: Scheme, engine: Engine) -> Floats:
    """The float32 weights [K, N] that the codes stand for, and that the engine multiplies with."""
    if scheme == Scheme.FLOAT:
        return weight_KN
    if scheme in (Scheme.W8A8, Scheme.FP8) or (scheme, engine) == (Scheme.W8, Engine.TENSORRT):
        scale_N = _column_scales(weight_KN, LARGEST[Scheme.FP8 if scheme == Scheme.FP8 else Scheme.W8A8])
        codes_KN = _to_float8(weight_KN / scale_N) if scheme == Scheme.FP8 else _to_integers(weight_KN / scale_N, 127)
        return codes_KN.astype(np.float32) * scale_N
    codes_GZN, scale_GN = _blocks(weight_KN, 8 if scheme == Scheme.W8 else 4)
    restored = codes_GZN * scale_GN[:, None]
    return restored.reshape(-1, weight_KN.shape[1])[: len(weight_KN)].astype(np.float32)


SMALLEST_ROW_MAX = np.finfo(np.float32).tiny
"""The least divisor of a row where each row has its own range; it keeps rows of zeros finite."""


def round_inputs(x: Floats, scheme: Scheme, input_range: float | None) -> Floats:
    """Inputs after quantizing in a scheme with this range, in float32. None: each row has its own range."""
    if input_range is None:
        row_max = np.maximum(np.abs(x).max(axis=-1, keepdims=True), SMALLEST_ROW_MAX)
        return np.asarray(round_inputs(x / row_max, scheme, 1.0) * row_max, np.float32)
    scale = np.float32(input_range / LARGEST[scheme])
    codes = np.clip(np.rint(x / scale), -128, 127) if scheme == Scheme.W8A8 else _to_float8(x / scale)
    return np.asarray(codes, dtype=np.float32) * scale


def _column_scales(weight_KN: Floats, largest: float) -> Floats:
    scale_N = np.abs(weight_KN).max(axis=0) / np.float32(largest)
    return np.where(scale_N > 0, scale_N, np.float32(1)).astype(np.float32)


def _to_integers(values: Floats, largest: int) -> Floats:
    return np.clip(np.rint(values), -largest, largest)


def _to_float8(values: Floats) -> NDArray[Any]:
    import ml_dtypes

    return np.clip(values, -448, 448).astype(ml_dtypes.float8_e4m3fn)


def _int8_columns(weight_KN: Floats) -> QuantizedWeight:
    scale_N = _column_scales(weight_KN, LARGEST[Scheme.W8A8])
    codes = _to_integers(weight_KN / scale_N, 127).astype(np.int8)
    return QuantizedWeight(shape=weight_KN.shape, codes=stored(codes, "I8", "INT8"), scales=floats(scale_N))


def _float8_columns(weight_KN: Floats) -> QuantizedWeight:
    scale_N = _column_scales(weight_KN, LARGEST[Scheme.FP8])
    codes = _to_float8(weight_KN / scale_N).view(np.uint8)
    return QuantizedWeight(
        shape=weight_KN.shape, codes=stored(codes, "F8_E4M3", "FLOAT8E4M3FN"), scales=floats(scale_N)
    )


def block_size(num_inputs: int, bits: int) -> int:
    """The best block for this number of inputs: in 4 bits the first size that divides it, in 8 bits the first that
    needs little padding; otherwise the smallest."""
    most = num_inputs * _MOST_PADDING if bits == 8 else 0
    return next((block for block in _BLOCKS[bits] if -num_inputs % block <= most), min(_BLOCKS[bits]))


def _blocks(weight_KN: Floats, bits: int, block: int | None = None) -> tuple[Floats, Floats]:
    """Symmetric codes_GZN (whole numbers) and scales_GN of blocks along the inputs, the last padded with zeros."""
    num_inputs, num_outputs = weight_KN.shape
    block = block or block_size(num_inputs, bits)
    padded = np.zeros((-(-num_inputs // block) * block, num_outputs), np.float32)
    padded[:num_inputs] = weight_KN
    weight_GZN = padded.reshape(-1, block, num_outputs)
    scale_GN = np.empty((len(weight_GZN), num_outputs), np.float32)
    codes_GZN = np.empty_like(weight_GZN)
    # A few rows of blocks at a time, because all intermediate values then stay in the cache.
    rows = max(1, _AT_ONCE // max(1, block * num_outputs))
    for start in range(0, len(weight_GZN), rows):
        part = slice(start, start + rows)
        scale_GN[part] = _best_scales(weight_GZN[part], bits)
        _round_to_codes(weight_GZN[part], scale_GN[part], bits, codes_GZN[part])
    return codes_GZN, scale_GN


def _best_scales(weight_GZN: Floats, bits: int) -> Floats:
    """The scale of each block and output with the least square error, of those in _CUTS."""
    full_GN: Floats = np.abs(weight_GZN).max(axis=1) / np.float32(_largest_code(bits))
    full_GN[full_GN == 0] = 1
    if bits != 4:
        return full_GN
    scale_GN, least_GN = full_GN.copy(), np.full(full_GN.shape, np.inf, np.float32)
    work_GZN = np.empty_like(weight_GZN)
    for cut in _CUTS:
        trial_GN = full_GN * cut
        _round_to_codes(weight_GZN, trial_GN, bits, work_GZN)
        work_GZN *= trial_GN[:, None]
        work_GZN -= weight_GZN
        error_GN = np.square(work_GZN, out=work_GZN).sum(axis=1)
        better_GN = error_GN < least_GN
        np.copyto(scale_GN, trial_GN, where=better_GN)
        np.copyto(least_GN, error_GN, where=better_GN)
    return scale_GN


def _round_to_codes(weight_GZN: Floats, scale_GN: Floats, bits: int, out_GZN: Floats) -> None:
    largest = _largest_code(bits)
    np.divide(weight_GZN, scale_GN[:, None], out=out_GZN)
    np.rint(out_GZN, out=out_GZN)
    np.clip(out_GZN, -largest, largest, out=out_GZN)


def _largest_code(bits: int) -> int:
    return int(2 ** (bits - 1)) - 1


def _packed_blocks(weight_KN: Floats, bits: int, block: int | None) -> QuantizedWeight:
    """For MatMulNBits: unsigned codes [N, G, bytes of a block], scales [N, G]; its zero point is the middle code."""
    codes_GZN, scale_GN = _blocks(weight_KN, bits, block)
    codes_NGZ = (codes_GZN + 2 ** (bits - 1)).astype(np.uint8).transpose(2, 0, 1)
    if bits == 4:
        codes_NGZ = codes_NGZ[..., ::2] | (codes_NGZ[..., 1::2] << 4)
    return QuantizedWeight(
        shape=weight_KN.shape,
        codes=stored(codes_NGZ, "U8", "UINT8"),
        scales=floats(scale_GN.T),
        block=codes_GZN.shape[1],
    )


def _int4_rows(weight_KN: Floats, block: int | None) -> QuantizedWeight:
    """For DequantizeLinear: signed codes [K, N], two a byte, scales [G, N]. K must be a multiple of the block."""
    codes_GZN, scale_GN = _blocks(weight_KN, 4, block)
    flat = codes_GZN.astype(np.int8).reshape(-1).view(np.uint8) & 15
    packed = flat[::2] | (flat[1::2] << 4)
    return QuantizedWeight(
        shape=weight_KN.shape,
        codes=stored(packed, "U8", "INT4", weight_KN.shape),
        scales=floats(scale_GN),
        block=codes_GZN.shape[1],
    )
