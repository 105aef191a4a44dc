"""Small ONNX models as bytes, without the onnx package: protobuf messages are fields of (number, length, value).

Numbers of fields and element types: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

from unimoe_runtime.files.safetensors_reader import TensorFile

FLOAT, INT8, INT64 = 1, 3, 7
_TYPES = {"F32": FLOAT, "I8": INT8}
_IR_VERSION = 11
_OPSET = 24


def with_inputs(content: bytes, tensors: TensorFile) -> bytes:
    """An ONNX model whose initializers, all of `tensors`, are also inputs, so that every run can bring its own weights.

    A message that occurs twice is merged when it is read (protobuf's rule for embedded messages), so the inputs are
    simply appended. Raises KeyError for weights of another type than float32 and int8.
    """
    inputs = [value(name, _TYPES[entry.dtype], entry.shape) for name, entry in tensors.entries.items()]
    return content + _field(7, b"".join(_field(11, item) for item in inputs))


def value(name: str, element_type: int, shape: Sequence[int | str]) -> bytes:
    """ValueInfoProto of an input or output; a size may be a name."""
    sizes = (_field(2, size.encode()) if isinstance(size, str) else _number(1, size) for size in shape)
    shape_proto = b"".join(_field(1, size) for size in sizes)
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, element_type) + _field(2, shape_proto)))


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: int) -> bytes:
    """NodeProto; attributes are integers."""
    content = b"".join(_field(1, name.encode()) for name in inputs)
    content += b"".join(_field(2, name.encode()) for name in outputs) + _field(4, kind.encode())
    for name, number in attributes.items():
        content += _field(5, _field(1, name.encode()) + _number(3, number) + _number(20, 2))  # type INT
    return content


def float_scalar(name: str, number: float) -> bytes:
    """TensorProto of one float32."""
    return _number(2, FLOAT) + _field(8, name.encode()) + _field(9, struct.pack("<f", number))


def integers(name: str, numbers: Sequence[int]) -> bytes:
    """TensorProto of a vector of int64."""
    packed = struct.pack(f"<{len(numbers)}q", *numbers)
    return _number(1, len(numbers)) + _number(2, INT64) + _field(8, name.encode()) + _field(9, packed)


def model(
    nodes: Iterable[bytes], inputs: Mapping[str, Sequence[int | str]], outputs: Mapping[str, Sequence[int | str]],
    constants: Iterable[bytes],
) -> bytes:  # fmt: skip
    """ModelProto; `inputs` and `outputs` are float32 tensors with their shapes."""
    graph = b"".join(_field(1, item) for item in nodes) + _field(2, b"graph")
    graph += b"".join(_field(5, item) for item in constants)
    graph += b"".join(_field(11, value(name, FLOAT, shape)) for name, shape in inputs.items())
    graph += b"".join(_field(12, value(name, FLOAT, shape)) for name, shape in outputs.items())
    return _number(1, _IR_VERSION) + _field(7, graph) + _field(8, _number(2, _OPSET))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, integer: int) -> bytes:
    return _varint(number << 3) + _varint(integer)


def _varint(integer: int) -> bytes:
    groups = [integer >> shift & 0x7F for shift in range(0, max(integer.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])
