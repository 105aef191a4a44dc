"""Experts that are loaded and dropped under a memory budget, in ONNX Runtime.

There are three ways to keep an expert, measured by benchmarks/expert_residency.py. The output must not depend
on which experts are in memory. So every way must give the same bits as an expert that is always loaded in its own
session. This is checked once for each precision, with its first expert. A way that gives other bits is not used.

- int8: one session for all experts, with the weights as inputs: views of the mapped files. Nothing is copied, and
  loading is a page fault. Sums of integers do not depend on their order.
- Floating point: again one session for all experts. Products with weights as inputs add in another order, so they are
  transposed (`transposed_expert`). Loading copies the transposed weights in float32.
- Every other precision (integer weights, products in float32): a session for each expert. ONNX Runtime copies the
  weights into the layout of its kernels when it makes the session. Loading takes as long as dozens of runs.

N tokens · C hidden
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import onnxruntime as ort

from unimoe_runtime.backends.onnxruntime.onnx_proto import with_inputs
from unimoe_runtime.backends.onnxruntime.passes import NO_WEIGHTS, Buffers
from unimoe_runtime.backends.onnxruntime.sessions import (
    engine_error,
    name_of,
    needs_optimizing,
    open_session,
    trim_heap,
)
from unimoe_runtime.backends.onnxruntime.transposed_expert import TransposedExpert, transposed_bytes, transposed_graph
from unimoe_runtime.backends.protocol import Array
from unimoe_runtime.bundle.reader import Bundle, expert_name
from unimoe_runtime.bundle.routing_statistics import bundled_activation
from unimoe_runtime.expert_cache.cache import Expert, ExpertCache
from unimoe_runtime.files.safetensors_reader import TensorFile

# Memory of a session's own objects, without its weights; measured with 10 of the demo's at a time, replaced 400 times.
_SESSION_BYTES = {"float32": 128 << 10}
_QUANTIZED_SESSION_BYTES = 192 << 10
_MAPPED = ("int8",)  # all products are integer products
_TRANSPOSED = ("float32", "float16", "bfloat16")
_PROBE_TOKENS = (1, 2, 16, 70)
_TRIM_EVERY = 16
_drops = itertools.count(1)


class ResidentExpert(Protocol):
    """One expert, ready to run."""

    def bound(self, buffers: Buffers, layer: int) -> Callable[[], None]:
        """The call that runs it on a pass's buffers."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run it on arrays of any number of tokens."""

    def close(self) -> None:
        """Give its memory back; the expert is not used until it is loaded again."""


class SessionExpert:
    """An expert with its own session."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._bound: WeakKeyDictionary[Buffers, Callable[[], None]] = WeakKeyDictionary()

    def bound(self, buffers: Buffers, layer: int) -> Callable[[], None]:
        run = self._bound.get(buffers)
        if run is None:
            run = self._bound[buffers] = buffers.bind_expert(self._session, layer)
        return run

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return _outputs(self._session, inputs, NO_WEIGHTS)

    def close(self) -> None:
        self._bound.clear()
        self._session = None
        _freed()


class MappedExpert:
    """An expert of a shared session; its weights are views of the mapped file. It still runs after `close`."""

    def __init__(self, session: Any, tensors: TensorFile) -> None:
        self._session, self._tensors = session, tensors
        self._weights = {name: ort.OrtValue.ortvalue_from_numpy(tensors.raw(name)) for name in tensors.entries}
        self._bound: WeakKeyDictionary[Buffers, Callable[[], None]] = WeakKeyDictionary()

    def bound(self, buffers: Buffers, layer: int) -> Callable[[], None]:
        run = self._bound.get(buffers)
        if run is None:
            run = self._bound[buffers] = buffers.bind_expert(self._session, layer, self._weights)
        return run

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return _outputs(self._session, inputs, self._weights)

    def fetch(self) -> None:
        """Read the weights now instead of at the first run."""
        self._tensors.fetch()

    def close(self) -> None:
        self._tensors.forget()


class Loader:
    """Loads experts of one bundle, each in the way that suits its precision."""

    def __init__(self, bundle: Bundle, providers: Sequence[str]) -> None:
        self._bundle, self._providers = bundle, providers
        self._lock = Lock()
        self._tensors: dict[str, TensorFile] = {}
        self._mapped: dict[str, MappedExpert] = {}
        self._sessions: dict[bytes, Any] = {}
        self._spare: deque[TransposedExpert] = deque(maxlen=1)
        self._one_of: dict[str, str] = {}
        for expert in itertools.product(range(bundle.model.num_layers), range(bundle.model.num_routed_experts)):
            graph = expert_name(*expert)
            self._one_of.setdefault(bundle.graphs[graph].precision, graph)
        self._shares: dict[str, bool] = {}

    def __call__(self, expert: Expert) -> ResidentExpert:
        graph = expert_name(*expert)
        precision = self._bundle.graph(graph).precision
        return self._shared(graph) if self.shares(precision) else self.own(graph)

    def shares(self, precision: str) -> bool:
        """Whether experts of a precision share a session: for one of them it gave the same bits as its own session."""
        with self._lock:
            if precision not in self._shares:
                self._shares[precision] = precision in (*_MAPPED, *_TRANSPOSED) and self._same_bits(
                    self._one_of[precision]
                )
            return self._shares[precision]

    def own(self, graph: str) -> SessionExpert:
        """An expert in its own session."""
        info = self._bundle.graph(graph)
        # An arena grows by powers of two; loading and dropping experts left it three times as large as its weights.
        optimize = needs_optimizing(graph, info.precision)
        path = self._bundle.path / info.file
        return SessionExpert(open_session(path, self._providers, info.precision, optimize=optimize, arena=False))

    def _shared(self, graph: str) -> MappedExpert | TransposedExpert:
        tensors = self._tensors.get(graph)
        if tensors is None:
            tensors = self._tensors[graph] = self._bundle.weights(graph)
        if self._bundle.graphs[graph].precision in _TRANSPOSED:
            try:
                transposed = self._spare.pop()
            except IndexError:
                transposed = TransposedExpert(self._bundle.model, self._transposed_session, self._spare.append)
            transposed.fill(tensors)
            return transposed
        mapped = self._mapped.get(graph)
        if mapped is None:
            mapped = self._mapped[graph] = MappedExpert(self._mapped_session(graph, tensors), tensors)
        mapped.fetch()
        return mapped

    def _mapped_session(self, graph: str, tensors: TensorFile) -> Any:
        """The session for every expert with this graph; the experts differ only in the names of their files."""
        info = self._bundle.graphs[graph]
        path = self._bundle.path / info.file
        content = path.read_bytes()
        shape = content.replace(Path(info.weights).name.encode(), b"")
        if shape not in self._sessions:
            self._sessions[shape] = open_session(
                path, self._providers, info.precision, content=with_inputs(content, tensors)
            )
        return self._sessions[shape]

    def _transposed_session(self, one_token: bool) -> Any:
        key = b"one" if one_token else b"more"
        if key not in self._sessions:
            content = transposed_graph(self._bundle.model, one_token=one_token)
            self._sessions[key] = open_session(self._bundle.path, self._providers, content=content, arena=False)
        return self._sessions[key]

    def _same_bits(self, graph: str) -> bool:
        shared, own = self._shared(graph), self.own(graph)
        hidden = self._bundle.model.hidden_size
        random = np.random.default_rng(0)
        same = True
        for tokens in _PROBE_TOKENS:
            inputs = {
                "accumulator_NC": random.standard_normal((tokens, hidden), dtype=np.float32),
                "expert_input_NC": random.standard_normal((tokens, hidden), dtype=np.float32),
                "weight_N1": random.random((tokens, 1), dtype=np.float32),
            }
            found, expected = shared.run(inputs), own.run(inputs)
            same = same and all(np.array_equal(found[name], expected[name]) for name in expected)
        shared.close()
        own.close()
        return same


def expert_cache(bundle: Bundle, providers: Sequence[str], budget_bytes: int) -> ExpertCache[ResidentExpert]:
    """The expert cache of a bundle within `budget_bytes`. Raises BundleError if the routing statistics or an expert
    that is tried here are damaged."""
    model = bundle.model
    activation = bundled_activation(bundle)
    experts = [(layer, expert) for layer in range(model.num_layers) for expert in range(model.num_routed_experts)]
    usual = {} if activation is None else {expert: float(activation.share_LR[expert]) for expert in experts}
    loader = Loader(bundle, providers)
    bytes_of = {expert: _expert_bytes(bundle, loader, expert_name(*expert)) for expert in experts}
    # Making a session holds Python's lock, so loading ahead would block the trunk that it should run beside.
    ahead = all(loader.shares(bundle.graphs[expert_name(*expert)].precision) for expert in experts)
    return ExpertCache(loader, bytes_of, budget_bytes, usual, ahead=ahead)


def _expert_bytes(bundle: Bundle, loader: Loader, graph: str) -> int:
    """Bytes that count for an expert: its weights as held in memory, plus its session if it has its own."""
    info = bundle.graphs[graph]
    stored = bundle.files[info.weights].bytes
    if loader.shares(info.precision):
        return stored if info.precision in _MAPPED else transposed_bytes(bundle.model)
    widened = 2 if info.precision in ("float16", "bfloat16") else 1
    return widened * stored + _SESSION_BYTES.get(info.precision, _QUANTIZED_SESSION_BYTES)


def _outputs(session: Any, inputs: Mapping[str, Array], weights: Mapping[str, Any]) -> dict[str, Array]:
    values = {name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value)) for name, value in inputs.items()}
    names = [output.name for output in session.get_outputs()]
    try:
        outputs = session.run_with_ort_values(names, {**values, **weights})
    except Exception as error:
        raise engine_error(name_of(session), error) from None
    return {name: value.numpy() for name, value in zip(names, outputs, strict=True)}


def _freed() -> None:
    """Called for each dropped session: occasionally returns freed memory to the system.

    A new session reuses the memory of the old one, but the heap keeps holes. Each trim costs a third of a load.
    """
    if next(_drops) % _TRIM_EVERY == 0:
        trim_heap()
