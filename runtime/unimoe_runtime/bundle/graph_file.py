"""Which files an ONNX graph reads, found in its bytes without the onnx package.

A tensor of a graph may lie in another file ("external data"), and the author of the graph chooses its name. A bundle's
graph may read only the weights that the manifest lists for it. An entry of external data has the key "location", so
only messages that contain these bytes are parsed.

Numbers of fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

_KEY = b"location"
_MAX_DEPTH = 64
_Places = dict[int, str]
# The fields of each message through which a tensor can be reached.
_MESSAGES: dict[str, _Places] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}


def external_files(content: bytes) -> set[str]:
    """The paths of external data in a model's bytes, as written there. Raises ValueError if they are not a model."""
    fields = list(_fields(content))
    if not any(number == 7 for number, _ in fields):
        raise ValueError("it has no graph")
    return set(_locations(content, "model", 0))


def require_own_weights(content: bytes, file: str, weights: str) -> None:
    """Raise ValueError if the graph `file` of a bundle reads another file than `weights`."""
    for location in external_files(content):
        if posixpath.normpath(posixpath.join(posixpath.dirname(file), location)) != posixpath.normpath(weights):
            raise ValueError(f"it reads {location[:80]!r}, and may read {weights} alone")


def _locations(content: bytes, kind: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise ValueError("it is nested too deep")
    places = _MESSAGES[kind]
    for number, part in _fields(content):
        inner = places.get(number)
        if inner is None or _KEY not in part:
            continue
        if inner == "entry":
            entry = dict(_fields(part))  # the last value of a repeated field counts
            if entry.get(1) == _KEY:
                yield entry.get(2, b"").decode("utf-8", "backslashreplace")
        else:
            yield from _locations(part, inner, depth + 1)


def _fields(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Numbers and contents of a message's fields; a field that is not length-delimited has empty content."""
    at, end = 0, len(content)
    while at < end:
        tag, at = _varint(content, at)
        match tag & 7:
            case 0:
                _, at = _varint(content, at)
                yield tag >> 3, b""
            case 1:
                at += 8
                yield tag >> 3, b""
            case 2:
                length, at = _varint(content, at)
                if at + length > end:
                    raise ValueError("it is cut off")
                yield tag >> 3, content[at : at + length]
                at += length
            case 5:
                at += 4
                yield tag >> 3, b""
            case _:
                raise ValueError("it is not an ONNX model")
    if at != end:
        raise ValueError("it is cut off")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            raise ValueError("it is cut off")
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it is not an ONNX model")
