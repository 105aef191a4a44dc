"""The buffers of a pass in ONNX Runtime, bound once to every graph that reads or writes them.

A decode step makes about twenty to eighty small calls, so it allocates and looks up nothing that can be done once:
inputs and outputs are bound to fixed host buffers, TensorScatter updates the cache in place (input and output are
bound to the same memory), and experts add to the accumulator in place.

B rows · T positions · N = B·T tokens · S cache capacity · D head dimension · C hidden · E dynamic experts
M gathered tokens
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, Protocol, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from unimoe_runtime.backends.onnxruntime.sessions import engine_error, name_of
from unimoe_runtime.backends.protocol import Array, StepInputs
from unimoe_runtime.backends.trunk_form import TrunkForm
from unimoe_runtime.bundle.reader import Bundle, expert_name, trunk_name
from unimoe_runtime.expert_cache.cache import ExpertCache
from unimoe_runtime.expert_cache.prefetch import ExpertPrefetcher

Floats = NDArray[np.float32]
Caches = list[tuple[Floats, Floats]]
"""Keys and values of each layer, in the shape of `TrunkForm.cache_shape`."""
NO_WEIGHTS: Mapping[str, Any] = {}


class Buffers(Protocol):
    """A pass's host buffers, to which an expert's inputs and output are bound."""

    weight_N1: Floats

    def bind_expert(self, session: Any, layer: int, weights: Mapping[str, Any] = NO_WEIGHTS) -> Callable[[], None]:
        """A call of that session on these buffers."""


class Sessions(Protocol):
    """The parts of the backend that a forward uses."""

    @property
    def bundle(self) -> Bundle: ...

    @property
    def experts(self) -> ExpertCache[Any] | None:
        """The experts under a memory budget; None where all stay loaded."""

    def session(self, graph: str) -> Any:
        """The InferenceSession of a graph."""

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a graph on host arrays."""

    def gathered(self, size: int) -> GatheredTokens:
        """The buffers for `size` gathered tokens, which all passes share."""

    def look_ahead(self) -> ExpertPrefetcher | None:
        """The prefetcher that a forward reports its picks to; None without a budget."""


class Bound:
    """A host array and the OrtValue that shares its memory."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.value = ort.OrtValue.ortvalue_from_numpy(array)


def _call(session: Any, binding: Any) -> Callable[[], None]:
    """A run of a session on the bound tensors. It calls the object behind the Python class, because the class's method
    checks each time whether a WebGPU graph is being captured."""
    run, bound = session._sess.run_with_iobinding, binding._iobinding

    def call() -> None:
        try:
            run(bound, None)
        except Exception as error:
            raise engine_error(name_of(session), error) from None

    return call


class ExpertBuffers:
    """The host buffers of an expert's inputs and output, and its calls, bound once.

    An expert of layer i adds to `accumulators[(i + 1) % 2]` in place.
    """

    def __init__(self, backend: Sessions, accumulators: Sequence[Bound], expert_input: Bound) -> None:
        self._backend, self._accumulators, self._expert_input = backend, accumulators, expert_input
        self._weight = Bound(np.zeros((len(expert_input.array), 1), dtype=np.float32))
        self.weight_N1: Floats = self._weight.array
        self._calls: dict[tuple[int, int], Callable[[], None]] = {}

    def run(self, layer: int, expert: int) -> None:
        """Run an expert on all rows of the buffers."""
        if self._backend.experts is not None:
            resident = self._backend.experts.acquire((layer, expert))
            try:
                resident.bound(self, layer)()
            finally:
                self._backend.experts.release((layer, expert))
            return
        call = self._calls.get((layer, expert))
        if call is None:
            session = self._backend.session(expert_name(layer, expert))
            call = self._calls[layer, expert] = self.bind_expert(session, layer)
        call()

    def bind_expert(self, session: Any, layer: int, weights: Mapping[str, Any] = NO_WEIGHTS) -> Callable[[], None]:
        """A call of an expert's session on these buffers; `weights` are OrtValues, where they are inputs."""
        binding = session.io_binding()
        for name, value in weights.items():
            binding.bind_ortvalue_input(name, value)
        accumulator = self._accumulators[(layer + 1) % 2].value
        binding.bind_ortvalue_input("accumulator_NC", accumulator)
        binding.bind_ortvalue_input("expert_input_NC", self._expert_input.value)
        binding.bind_ortvalue_input("weight_N1", self._weight.value)
        binding.bind_ortvalue_output("new_accumulator_NC", accumulator)
        return _call(session, binding)


class GatheredTokens:
    """Buffers of a fixed size, to which the tokens that picked an expert are copied. Any number of threads uses it:
    each further one at the same time gets buffers of its own."""

    def __init__(self, backend: Sessions, size: int) -> None:
        self._backend, self._size = backend, size
        self._next: GatheredTokens | None = None
        shape = (size, backend.bundle.model.hidden_size)
        accumulator, expert_input = (Bound(np.zeros(shape, dtype=np.float32)) for _ in range(2))
        self._accumulator_MC, self._expert_input_MC = accumulator.array, expert_input.array
        self._expert = ExpertBuffers(backend, (accumulator, accumulator), expert_input)
        self._lock = Lock()

    def run(self, layer: int, expert: int, tokens_M: NDArray[np.int64], current: BoundPass, weight_N1: Floats) -> None:
        """Run an expert on some tokens of a pass."""
        if not self._lock.acquire(blocking=False):
            self._next = self._next or GatheredTokens(self._backend, self._size)
            self._next.run(layer, expert, tokens_M, current, weight_N1)
            return
        try:
            count, accumulator_NC = len(tokens_M), current.hidden_NC[(layer + 1) % 2]
            # With the mode "raise", numpy would copy through a buffer.
            accumulator_NC.take(tokens_M, 0, self._accumulator_MC[:count], "clip")
            current.expert_input_NC.take(tokens_M, 0, self._expert_input_MC[:count], "clip")
            weight_M1 = self._expert.weight_N1
            weight_M1[:count] = weight_N1[tokens_M]
            weight_M1[count:] = 0
            self._expert.run(layer, expert)
            accumulator_NC[tokens_M] = self._accumulator_MC[:count]
        finally:
            self._lock.release()


class BoundPass:
    """Buffers and bindings for passes of one shape: B rows × T positions over caches of capacity S.

    The hidden state alternates between two buffers: layer i reads one and writes its accumulator to the other, experts
    add to that in place, and layer i + 1 reads it.
    """

    def __init__(self, backend: Sessions, caches: Caches, num_rows: int, length: int) -> None:
        model = backend.bundle.model
        self._backend, self._caches = backend, caches
        self._num_rows = num_rows
        tokens = num_rows * length
        capacity = caches[0][0].shape[2]
        self.hidden_BTC = [np.zeros((num_rows, length, model.hidden_size), dtype=np.float32) for _ in range(2)]
        self.hidden_NC = [buffer.reshape(tokens, model.hidden_size) for buffer in self.hidden_BTC]
        self.weights_NE = np.zeros((tokens, model.num_dynamic_experts), dtype=np.float32)
        self.router_logits_NR = np.zeros((tokens, model.num_router_rows), dtype=np.float32)
        self._form = TrunkForm.of(backend.bundle)
        shapes = self._form.step_shapes(num_rows, length, capacity)
        self._step = {name: np.zeros(shape, dtype) for name, (shape, dtype) in shapes.items()}
        self._in = {name: Bound(array) for name, array in self._step.items()}
        self._hidden_BTC = [Bound(buffer) for buffer in self.hidden_BTC]
        self._hidden_NC = [Bound(buffer) for buffer in self.hidden_NC]
        self.expert_input_NC: Floats = np.zeros((tokens, model.hidden_size), dtype=np.float32)
        self._expert_input = Bound(self.expert_input_NC)
        self._weights = Bound(self.weights_NE)
        self._router_logits = Bound(self.router_logits_NR)
        self.experts = ExpertBuffers(backend, self._hidden_NC, self._expert_input)
        self.logits_NKV = np.zeros((tokens, model.num_codebooks, model.codec_vocab_size), dtype=np.float32)
        self._trunks: list[Callable[[], None] | None] = [None] * model.num_layers
        self._head: Callable[[], None] | None = None

    def over(self, caches: Caches) -> Self:
        """The pass over other caches, of which it uses the first rows. Only caches and mask depend on the capacity.

        Bindings to the same caches are kept.
        """
        if caches is not self._caches:
            self._caches = caches
            name = self._form.mask
            mask_shape = (*self._step[name].shape[:3], caches[0][0].shape[2])
            if mask_shape != self._step[name].shape:
                self._step[name] = np.zeros(mask_shape, dtype=np.bool_)
                self._in[name] = Bound(self._step[name])
            self._trunks = [None] * len(self._trunks)
        return self

    def write(self, inputs: StepInputs) -> None:
        """Copy a pass's inputs into the bound buffers."""
        self.hidden_BTC[0][...] = inputs.hidden_BTC
        self._form.write(self._step, inputs)

    def trunk(self, layer: int) -> None:
        """Run a layer's trunk."""
        run = self._trunks[layer]
        if run is None:
            run = self._trunks[layer] = self._bind_trunk(layer)
        run()

    def head(self) -> None:
        """Run the head on all rows; the result is in `logits_NKV`."""
        if self._head is None:
            self._head = self._bind_head()
        self._head()

    def _bind_trunk(self, layer: int) -> Callable[[], None]:
        session = self._backend.session(trunk_name(layer))
        binding = session.io_binding()
        hidden = self._form.hidden_inputs(self._hidden_BTC[layer % 2], self._hidden_NC[layer % 2])
        for name, bound in {**hidden, **self._in}.items():
            binding.bind_ortvalue_input(name, bound.value)
        for name, cache in zip(self._form.caches, self._caches[layer], strict=True):
            rows = cache[: self._num_rows]
            updated = Bound(rows.reshape(self._form.graph_shape(rows.shape)))
            binding.bind_ortvalue_input(name, updated.value)
            binding.bind_ortvalue_output(f"new_{name}", updated.value)
        binding.bind_ortvalue_output("accumulator_NC", self._hidden_NC[(layer + 1) % 2].value)
        binding.bind_ortvalue_output("expert_input_NC", self._expert_input.value)
        binding.bind_ortvalue_output("weights_NE", self._weights.value)
        binding.bind_ortvalue_output("router_logits_NR", self._router_logits.value)
        return _call(session, binding)

    def _bind_head(self) -> Callable[[], None]:
        session = self._backend.session("head")
        binding = session.io_binding()
        last = self._hidden_NC[self._backend.bundle.model.num_layers % 2]
        binding.bind_ortvalue_input("hidden_NC", last.value)
        binding.bind_ortvalue_output("logits_NKV", Bound(self.logits_NKV).value)
        return _call(session, binding)
