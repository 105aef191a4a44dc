"""One utterance's passes in ONNX Runtime: host buffers, bound once to every graph that reads or writes them.

A decode step makes some twenty to eighty small calls, so nothing is allocated or looked up in it that could be
done once: inputs and outputs are bound to fixed host buffers, TensorScatter updates the cache in place (input and
output are bound to the same memory), experts add to the accumulator in place.

B rows · T positions · N = B·T tokens · S cache capacity · D head dimension · C hidden · E dynamic experts
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from unimoe_runtime.backends.protocol import Array, CachedPositions, StepInputs
from unimoe_runtime.bundle.reader import Bundle, expert_name, trunk_name
from unimoe_runtime.expert_cache.cache import ExpertCache
from unimoe_runtime.expert_cache.prefetch import ExpertPrefetcher

Floats = NDArray[np.float32]
# Memory of caches for so many slots, some ten seconds of the demo's, is left to the next utterance. It is taken up as
# it fills: what has not been written costs nothing.
_KEPT_SLOTS = 512
NO_WEIGHTS: Mapping[str, Any] = {}


class Buffers(Protocol):
    """A pass's host buffers, which an expert's inputs and output are bound to."""

    weight_N1: Floats

    def bind_expert(self, session: Any, layer: int, weights: Mapping[str, Any] = NO_WEIGHTS) -> Callable[[], None]:
        """A call of that session on them."""


class Sessions(Protocol):
    """What a forward needs of its backend."""

    @property
    def bundle(self) -> Bundle: ...

    @property
    def experts(self) -> ExpertCache[Any] | None:
        """The experts under a memory budget; None where all stay loaded."""

    def session(self, graph: str) -> Any:
        """The InferenceSession of a graph."""

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a graph on host arrays."""

    def look_ahead(self) -> ExpertPrefetcher | None:
        """What a forward reports its picks to, under a budget."""


class _Bound:
    """A host array and the OrtValue that shares its memory."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.value = ort.OrtValue.ortvalue_from_numpy(array)


def _call(session: Any, binding: Any) -> Callable[[], None]:
    """A run of a session on what is bound: of the object behind the Python class, whose own method asks each time
    whether a WebGPU graph is being captured."""
    return partial(session._sess.run_with_iobinding, binding._iobinding, None)


class _Pass:
    """Buffers and bindings for passes of one shape: B rows × T positions over caches of capacity S.

    The hidden state goes back and forth between two buffers: layer i reads one and writes its accumulator to the
    other, experts add to that in place, layer i + 1 reads it.
    """

    def __init__(self, backend: Sessions, caches: list[tuple[_Bound, _Bound]], num_rows: int, length: int) -> None:
        model = backend.bundle.model
        self._backend, self._caches = backend, caches
        tokens = num_rows * length
        capacity = caches[0][0].array.shape[2]
        self.hidden_BTC = [np.zeros((num_rows, length, model.hidden_size), dtype=np.float32) for _ in range(2)]
        self.hidden_NC = [buffer.reshape(tokens, model.hidden_size) for buffer in self.hidden_BTC]
        self.weights_NE = np.zeros((tokens, model.num_dynamic_experts), dtype=np.float32)
        self.router_logits_NR = np.zeros((tokens, model.num_router_rows), dtype=np.float32)
        self.weight_N1 = np.zeros((tokens, 1), dtype=np.float32)
        self._cos_BTD = np.zeros((num_rows, length, model.head_dim), dtype=np.float32)
        self._sin_BTD = np.zeros((num_rows, length, model.head_dim), dtype=np.float32)
        self._mask_B1TS = np.zeros((num_rows, 1, length, capacity), dtype=np.bool_)
        self._write_index_B = np.zeros(num_rows, dtype=np.int64)
        self._in = {
            "cos_BTD": _Bound(self._cos_BTD),
            "sin_BTD": _Bound(self._sin_BTD),
            "mask_B1TS": _Bound(self._mask_B1TS),
            "write_index_B": _Bound(self._write_index_B),
        }
        self._hidden_BTC = [_Bound(buffer) for buffer in self.hidden_BTC]
        self._hidden_NC = [_Bound(buffer) for buffer in self.hidden_NC]
        self._expert_input = _Bound(np.zeros((tokens, model.hidden_size), dtype=np.float32))
        self._weights = _Bound(self.weights_NE)
        self._router_logits = _Bound(self.router_logits_NR)
        self._weight = _Bound(self.weight_N1)
        self.logits_NKV = np.zeros((tokens, model.num_codebooks, model.codec_vocab_size), dtype=np.float32)
        self._trunks: list[Callable[[], None] | None] = [None] * model.num_layers
        self._experts: dict[tuple[int, int], Callable[[], None]] = {}
        self._head: Callable[[], None] | None = None

    def rebind(self, caches: list[tuple[_Bound, _Bound]]) -> None:
        """Go on over other caches: they and the mask alone depend on the capacity."""
        self._caches = caches
        mask_shape = (*self._mask_B1TS.shape[:3], caches[0][0].array.shape[2])
        self._mask_B1TS = np.zeros(mask_shape, dtype=np.bool_)
        self._in["mask_B1TS"] = _Bound(self._mask_B1TS)
        self._trunks = [None] * len(self._trunks)

    def write(self, inputs: StepInputs) -> None:
        self.hidden_BTC[0][...] = inputs.hidden_BTC
        self._cos_BTD[...] = inputs.cos_BTD
        self._sin_BTD[...] = inputs.sin_BTD
        self._mask_B1TS[...] = inputs.mask_B1TS
        self._write_index_B.fill(inputs.write_index)

    def trunk(self, layer: int) -> None:
        run = self._trunks[layer]
        if run is None:
            run = self._trunks[layer] = self._bind_trunk(layer)
        run()

    def expert(self, layer: int, expert: int) -> None:
        if self._backend.experts is not None:
            resident = self._backend.experts.acquire((layer, expert))
            try:
                resident.bound(self, layer)()
            finally:
                self._backend.experts.release((layer, expert))
            return
        run = self._experts.get((layer, expert))
        if run is None:
            session = self._backend.session(expert_name(layer, expert))
            run = self._experts[layer, expert] = self.bind_expert(session, layer)
        run()

    def head(self) -> None:
        if self._head is None:
            self._head = self._bind_head()
        self._head()

    def expert_input(self) -> Floats:
        array: Floats = self._expert_input.array
        return array

    def _bind_trunk(self, layer: int) -> Callable[[], None]:
        session = self._backend.session(trunk_name(layer))
        binding = session.io_binding()
        key, value = self._caches[layer]
        binding.bind_ortvalue_input("hidden_BTC", self._hidden_BTC[layer % 2].value)
        for name, bound in self._in.items():
            binding.bind_ortvalue_input(name, bound.value)
        binding.bind_ortvalue_input("key_cache_BHSD", key.value)
        binding.bind_ortvalue_input("value_cache_BHSD", value.value)
        binding.bind_ortvalue_output("accumulator_NC", self._hidden_NC[(layer + 1) % 2].value)
        binding.bind_ortvalue_output("expert_input_NC", self._expert_input.value)
        binding.bind_ortvalue_output("weights_NE", self._weights.value)
        binding.bind_ortvalue_output("router_logits_NR", self._router_logits.value)
        binding.bind_ortvalue_output("new_key_cache_BHSD", key.value)
        binding.bind_ortvalue_output("new_value_cache_BHSD", value.value)
        return _call(session, binding)

    def bind_expert(self, session: Any, layer: int, weights: Mapping[str, Any] = NO_WEIGHTS) -> Callable[[], None]:
        """A call of an expert's session on this pass's buffers; `weights` are OrtValues, where they are inputs."""
        binding = session.io_binding()
        for name, value in weights.items():
            binding.bind_ortvalue_input(name, value)
        accumulator = self._hidden_NC[(layer + 1) % 2].value
        binding.bind_ortvalue_input("accumulator_NC", accumulator)
        binding.bind_ortvalue_input("expert_input_NC", self._expert_input.value)
        binding.bind_ortvalue_input("weight_N1", self._weight.value)
        binding.bind_ortvalue_output("new_accumulator_NC", accumulator)
        return _call(session, binding)

    def _bind_head(self) -> Callable[[], None]:
        session = self._backend.session("head")
        binding = session.io_binding()
        last = self._hidden_NC[self._backend.bundle.model.num_layers % 2]
        binding.bind_ortvalue_input("hidden_NC", last.value)
        binding.bind_ortvalue_output("logits_NKV", _Bound(self.logits_NKV).value)
        return _call(session, binding)


class Spare:
    """What an utterance leaves to the next one of as many rows: bound decode steps, and the memory of its caches.

    Bindings and fresh memory would make the first step, and each one in which the cache grows, twice as long.
    """

    def __init__(self) -> None:
        self.decoding: _Pass | None = None
        self.caches: list[tuple[Floats, Floats]] = []


class BoundForward:
    """Forward over bound host buffers; one utterance's cache and passes.

    `close` gives what it leaves to `spares`. A pass over one position runs a picked expert on all rows
    (static shapes). A longer one, the prefill, gathers each expert's rows first.
    """

    def __init__(self, backend: Sessions, num_rows: int, spares: list[Spare]) -> None:
        self._backend = backend
        self._num_rows = num_rows
        try:
            self._spare = spares.pop()
        except IndexError:
            self._spare = Spare()
        self._spares: list[Spare] | None = spares
        self._capacity = 0
        self._caches: list[tuple[_Bound, _Bound]] = []
        self._memory = self._spare.caches or [(np.empty(0, np.float32), np.empty(0, np.float32))]
        self._pass: _Pass | None = None
        self._length = 0
        self._side = 0
        self._look_ahead = backend.look_ahead()

    def begin(self, inputs: StepInputs) -> None:
        length, capacity = inputs.mask_B1TS.shape[2:]
        if capacity != self._capacity:
            self._grow(capacity)
            if self._pass is not None:
                self._pass.rebind(self._caches)
        if self._pass is None or length != self._length:
            self._pass = self._decoding() if length == 1 else self._new_pass(length)
            self._length = length
        self._pass.write(inputs)
        self._side = 0

    def trunk(self, layer: int) -> Floats:
        current = self._current()
        if self._look_ahead is not None:
            self._look_ahead.before_trunk(layer, current.hidden_NC[layer % 2])
        current.trunk(layer)
        self._side = (layer + 1) % 2
        if self._look_ahead is not None:
            self._look_ahead.after_trunk(layer, current.weights_NE, decoding=self._length == 1)
        return current.weights_NE

    def router_logits(self) -> Floats:
        return self._current().router_logits_NR

    def expert(self, layer: int, expert: int, weight_N1: Floats) -> None:
        current = self._current()
        if self._length == 1:
            current.weight_N1[...] = weight_N1
            current.expert(layer, expert)
            return
        tokens_M = weight_N1[:, 0].nonzero()[0]
        accumulator_NC = current.hidden_NC[self._side]
        inputs = {
            "accumulator_NC": accumulator_NC[tokens_M],
            "expert_input_NC": current.expert_input()[tokens_M],
            "weight_N1": weight_N1[tokens_M],
        }
        outputs = self._backend.run(expert_name(layer, expert), inputs)
        accumulator_NC[tokens_M] = outputs["new_accumulator_NC"]

    def hidden(self) -> Floats:
        return self._current().hidden_NC[self._side].copy()

    def head(self, tokens_M: NDArray[np.int64]) -> Floats:
        current = self._current()
        if self._length == 1 and len(tokens_M) == self._num_rows:
            current.head()
            return current.logits_NKV.take(tokens_M, axis=0)
        hidden_MC = current.hidden_NC[self._side][tokens_M]
        logits: Floats = self._backend.run("head", {"hidden_NC": hidden_MC})["logits_NKV"]
        return logits

    def snapshot(self, num_positions: int) -> CachedPositions:
        layers = [
            (key.array[0, :, :num_positions].copy(), value.array[0, :, :num_positions].copy())
            for key, value in self._caches
        ]
        return CachedPositions(layers=tuple(layers))

    def restore(self, cached: CachedPositions, capacity: int) -> None:
        if capacity > self._capacity:
            self._grow(capacity)
            self._pass = None
        for pair, kept in zip(self._caches, cached.layers, strict=True):
            for bound, kept_HPD in zip(pair, kept, strict=True):
                bound.array[:, :, : cached.num_positions] = kept_HPD

    def close(self) -> None:
        spares, self._spares = self._spares, None
        if spares is not None:
            spares.append(self._spare)

    def _current(self) -> _Pass:
        if self._pass is None:
            raise RuntimeError("begin() comes before a pass over the layers")
        return self._pass

    def _new_pass(self, length: int) -> _Pass:
        return _Pass(self._backend, self._caches, self._num_rows, length)

    def _decoding(self) -> _Pass:
        if self._spare.decoding is None:
            self._spare.decoding = self._new_pass(1)
        else:
            self._spare.decoding.rebind(self._caches)
        return self._spare.decoding

    def _grow(self, capacity: int) -> None:
        kept = min(capacity, self._capacity)
        # The new caches lie in the same memory, their slots elsewhere.
        held = [tuple(bound.array[:, :, :kept].copy() for bound in pair) for pair in self._caches]
        self._caches = self._new_caches(capacity)
        for layer, pair in enumerate(self._caches):
            for side, bound in enumerate(pair):
                bound.array[:, :, kept:] = 0
                if kept:
                    bound.array[:, :, :kept] = held[layer][side]
        self._capacity = capacity

    def _new_caches(self, capacity: int) -> list[tuple[_Bound, _Bound]]:
        model = self._backend.bundle.model
        shape = (self._num_rows, model.num_kv_heads, capacity, model.head_dim)
        slot_size, size = math.prod(shape) // capacity, math.prod(shape)
        if len(self._memory[0][0]) < size:
            slots = max(_KEPT_SLOTS, 1 << (capacity - 1).bit_length())
            self._memory = [
                (np.empty(slots * slot_size, np.float32), np.empty(slots * slot_size, np.float32))
                for _ in range(model.num_layers)
            ]
            if slots == _KEPT_SLOTS:
                self._spare.caches = self._memory
        return [(_Bound(key[:size].reshape(shape)), _Bound(value[:size].reshape(shape))) for key, value in self._memory]
