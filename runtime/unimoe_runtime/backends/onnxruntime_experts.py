"""Experts that come and go under a memory budget, in ONNX Runtime.

Two ways to keep one, measured in benchmarks/results/expert_residency.md. The output must not show which experts were
in memory, so both give the bits of an expert that is always loaded:

- A session of its own. ONNX Runtime copies a float32 weight into the layout of its kernels when the session is made
  and lets go of the file's pages; that layout also decides the order in which a product is added up, so a float32
  expert can only be run this way. Loading takes some 25 runs.
- One session for all, whose weights are inputs: views of the mapped files. Nothing is copied, loading is a page fault.
  Integers add up to the same in any order, so int8 experts are kept this way, 1.04 times as slow.

N tokens · C hidden
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import onnxruntime as ort

from ..bundle import Bundle, expert_name
from ..planning.activation import bundled_activation
from ..residency import Expert, ExpertMemory
from ..tensorfile import TensorFile
from . import Array
from .onnxruntime import needs_optimizing, open_session
from .onnxruntime_forward import NO_WEIGHTS

# A session's own objects, whatever its weights; measured with 10 of the demo's at a time, 400 times replaced.
_SESSION_BYTES = {"float32": 128 << 10}
_QUANTIZED_SESSION_BYTES = 192 << 10
_INPUTS_PRECISION = "int8"  # products of integers throughout
_PROBE_TOKENS = (1, 2, 16)
_ONNX_TYPES = {"F32": 1, "I8": 3}
_TRIM_EVERY = 16
_drops = itertools.count(1)


class Buffers(Protocol):
    """A pass's host buffers, which an expert's inputs and output are bound to."""

    def bind_expert(self, session: Any, layer: int, weights: Mapping[str, Any] = NO_WEIGHTS) -> Callable[[], None]:
        """A call of that session on them."""


class BoundExpert:
    """One expert, ready to run. `weights`: OrtValues over `tensors`, where they are the session's inputs."""

    def __init__(self, session: Any, weights: Mapping[str, Any], tensors: TensorFile | None) -> None:
        self._session, self._weights, self._tensors = session, weights, tensors
        self._outputs = [output.name for output in session.get_outputs()]
        self._bound: WeakKeyDictionary[Buffers, Callable[[], None]] = WeakKeyDictionary()

    def bound(self, buffers: Buffers, layer: int) -> Callable[[], None]:
        """The call that runs it on a pass's buffers."""
        run = self._bound.get(buffers)
        if run is None:
            run = self._bound[buffers] = buffers.bind_expert(self._session, layer, self._weights)
        return run

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        values = {name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value)) for name, value in inputs.items()}
        outputs = self._session.run_with_ort_values(self._outputs, {**values, **self._weights})
        return {name: value.numpy() for name, value in zip(self._outputs, outputs, strict=True)}

    def fetch(self) -> None:
        """Have the mapped weights read now, not at the first run."""
        if self._tensors is not None:
            self._tensors.fetch()

    def close(self) -> None:
        """Give the memory back. An expert over a map can be run again: its pages come back."""
        if self._tensors is not None:
            self._tensors.forget()
            return
        self._bound.clear()
        self._session = None
        _freed()


class _Loader:
    """Loads experts of one bundle."""

    def __init__(self, bundle: Bundle, providers: Sequence[str]) -> None:
        self._bundle, self._providers = bundle, providers
        self._mapped: dict[Expert, BoundExpert] = {}
        self._shared: dict[bytes, Any] = {}
        self._lock = Lock()

    def __call__(self, expert: Expert) -> BoundExpert:
        mapped = self._mapped.get(expert)
        if mapped is not None:
            mapped.fetch()
            return mapped
        graph = expert_name(*expert)
        info = self._bundle.graph(graph)
        if info.precision == _INPUTS_PRECISION:
            tensors = self._bundle.weights(graph)
            session = self._shared_session(graph, tensors)
            if session is not None:
                mapped = self._mapped[expert] = BoundExpert(session, _values(tensors), tensors)
                mapped.fetch()
                return mapped
        return BoundExpert(self._own_session(graph), NO_WEIGHTS, None)

    def _own_session(self, graph: str) -> Any:
        info = self._bundle.graphs[graph]
        return open_session(
            self._bundle.path / info.file,
            self._providers,
            info.precision,
            optimize=needs_optimizing(graph, info.precision),
            arena=False,  # an arena grows by powers of two, and churn left it three times as large as its weights
        )

    def _shared_session(self, graph: str, tensors: TensorFile) -> Any | None:
        """The session that runs every expert of this one's shape; None where its bits are not those of its own."""
        info = self._bundle.graphs[graph]
        path = self._bundle.path / info.file
        content = path.read_bytes()
        shape = content.replace(Path(info.weights).name.encode(), b"")
        with self._lock:
            if shape not in self._shared:
                session = open_session(path, self._providers, info.precision, content=with_inputs(content, tensors))
                found = BoundExpert(session, _values(tensors), tensors)
                own = BoundExpert(self._own_session(graph), NO_WEIGHTS, None)
                self._shared[shape] = session if _same_bits(found, own, self._bundle.model.hidden_size) else None
            return self._shared[shape]


def expert_memory(bundle: Bundle, providers: Sequence[str], budget_bytes: int) -> ExpertMemory[BoundExpert]:
    """The experts of a bundle within `budget_bytes`. Raises BundleError for damaged routing statistics."""
    model = bundle.model
    activation = bundled_activation(bundle)
    experts = [(layer, expert) for layer in range(model.num_layers) for expert in range(model.num_routed_experts)]
    usual = {} if activation is None else {expert: float(activation.share_LR[expert]) for expert in experts}
    bytes_of = {expert: _expert_bytes(bundle, expert_name(*expert)) for expert in experts}
    # Making a session holds Python's lock: loaded ahead, it would hold up the very trunk that it should run beside.
    mapped = all(bundle.graphs[expert_name(*expert)].precision == _INPUTS_PRECISION for expert in experts)
    return ExpertMemory(_Loader(bundle, providers), bytes_of, budget_bytes, usual, ahead=mapped)


def with_inputs(content: bytes, tensors: TensorFile) -> bytes:
    """An ONNX model whose initializers, all of `tensors`, are inputs too, so that every run can bring its own.

    The parts of a model that is written twice are merged when it is read (protobuf's rule for embedded messages), so
    the inputs are appended: ModelProto.graph = 7, GraphProto.input = 11, ValueInfoProto.name = 1 and type = 2,
    TypeProto.tensor_type = 1 with elem_type = 1 and shape = 2, a dim = 1 of dim_value = 1.
    """
    inputs = b""
    for name, entry in tensors.entries.items():
        shape = b"".join(_field(1, b"\x08" + _varint(size)) for size in entry.shape)
        tensor = b"\x08" + _varint(_ONNX_TYPES[entry.dtype]) + _field(2, shape)
        inputs += _field(11, _field(1, name.encode()) + _field(2, _field(1, tensor)))
    return content + _field(7, inputs)


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def _values(tensors: TensorFile) -> dict[str, Any]:
    return {name: ort.OrtValue.ortvalue_from_numpy(tensors.raw(name)) for name in tensors.entries}


def _same_bits(one: BoundExpert, other: BoundExpert, hidden_size: int) -> bool:
    random = np.random.default_rng(0)
    for tokens in _PROBE_TOKENS:
        inputs = {
            "accumulator_NC": random.standard_normal((tokens, hidden_size), dtype=np.float32),
            "expert_input_NC": random.standard_normal((tokens, hidden_size), dtype=np.float32),
            "weight_N1": random.random((tokens, 1), dtype=np.float32),
        }
        found, expected = one.run(inputs), other.run(inputs)
        if any(not np.array_equal(found[name], expected[name]) for name in expected):
            return False
    return True


def _expert_bytes(bundle: Bundle, graph: str) -> int:
    """What an expert is reckoned at: its weights as ONNX Runtime holds them, and its session."""
    info = bundle.graphs[graph]
    stored = bundle.files[info.weights].bytes
    if info.precision == _INPUTS_PRECISION:
        return stored
    widened = 2 if info.precision in ("float16", "bfloat16") else 1
    return widened * stored + _SESSION_BYTES.get(info.precision, _QUANTIZED_SESSION_BYTES)


def _freed() -> None:
    """Called for each session dropped: now and then, what was freed goes back to the system.

    A new session takes the room of the old one, but the heap keeps holes. Each trim costs a third of a load.
    """
    if next(_drops) % _TRIM_EVERY == 0:
        with suppress(AttributeError, OSError):  # another C library than glibc: what it keeps stays with it
            ctypes.CDLL(None).malloc_trim(0)
