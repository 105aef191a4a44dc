"""Forward over any backend's `run`, with every array on the host.

B rows · T positions · N = B·T tokens · S cache capacity · H heads · D head dimension · C hidden
M chosen tokens · K codebooks · V codec vocabulary
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.protocol import Array, CachedPositions, Forward, RowCounts, StepInputs
from unimoe_runtime.backends.trunk_form import TrunkForm
from unimoe_runtime.bundle.reader import Bundle, expert_name, trunk_name

Floats = NDArray[np.float32]


HOST_ROWS = RowCounts(sizes=(1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64))
"""Closely spaced, because on a CPU every row of a step costs time, used or not."""


class GraphRunner(Protocol):
    """The parts of a backend that `HostForward` uses: the bundle, and a run of a graph by name."""

    @property
    def bundle(self) -> Bundle: ...

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]: ...


class HostForward:
    """Forward over any backend's `run`, with every array on the host."""

    def __init__(self, backend: GraphRunner, num_rows: int) -> None:
        self._backend = backend
        config = backend.bundle.model
        self._form = TrunkForm.of(backend.bundle)
        empty = np.zeros(self._form.cache_shape(num_rows, 0), dtype=np.float32)
        self._caches = [(empty, empty)] * config.num_layers
        self._shared: dict[str, Any] = {}
        self._hidden_BTC = np.zeros((num_rows, 0, config.hidden_size), dtype=np.float32)
        self._last: dict[str, Array] = {}

    def begin(self, inputs: StepInputs) -> None:
        self.resize(inputs.mask_B1TS.shape[0], inputs.mask_B1TS.shape[3])
        self._hidden_BTC = inputs.hidden_BTC
        self._shared = self._form.step_inputs(inputs)

    def trunk(self, layer: int) -> Floats:
        key, value = self._caches[layer]
        inputs = {**self._form.hidden_inputs(self._hidden_BTC, self.hidden()), **self._shared}
        for name, cache in zip(self._form.caches, (key, value), strict=True):
            inputs[name] = cache.reshape(self._form.graph_shape(cache.shape))
        self._last = self._backend.run(trunk_name(layer), inputs)
        new_key, new_value = (self._last[f"new_{name}"] for name in self._form.caches)
        self._caches[layer] = new_key.reshape(key.shape), new_value.reshape(value.shape)
        self._hidden_BTC = self._last["accumulator_NC"].reshape(self._hidden_BTC.shape)
        return self._last["weights_NE"]

    def router_logits(self) -> Floats:
        return self._last["router_logits_NR"]

    def expert(self, layer: int, expert: int, weight_N1: Floats) -> None:
        inputs = {
            "accumulator_NC": self.hidden(),
            "expert_input_NC": self._last["expert_input_NC"],
            "weight_N1": weight_N1,
        }
        outputs = self._backend.run(expert_name(layer, expert), inputs)
        self._hidden_BTC = outputs["new_accumulator_NC"].reshape(self._hidden_BTC.shape)

    def hidden(self) -> Floats:
        return self._hidden_BTC.reshape(-1, self._hidden_BTC.shape[-1])

    def head(self, tokens_M: NDArray[np.int64]) -> Floats:
        return self._backend.run("head", {"hidden_NC": self.hidden()[tokens_M]})["logits_NKV"]

    def snapshot(self, num_positions: int) -> CachedPositions:
        return CachedPositions.of(self._caches, num_positions)

    def restore(self, cached: CachedPositions, capacity: int) -> None:
        self.resize(self._caches[0][0].shape[0], max(capacity, self._caches[0][0].shape[2]))
        for pair, kept in zip(self._caches, cached.layers, strict=True):
            for cache_BHSD, kept_HPD in zip(pair, kept, strict=True):
                cache_BHSD[:, :, : cached.num_positions] = kept_HPD

    def close(self) -> None:
        self._caches, self._last = [], {}

    def resize(self, num_rows: int, capacity: int) -> None:
        rows, heads, slots, head_dim = self._caches[0][0].shape
        if (rows, slots) == (num_rows, capacity):
            return
        kept = slice(min(rows, num_rows)), slice(None), slice(min(slots, capacity))
        grown: list[tuple[Floats, Floats]] = []
        for pair in self._caches:
            key, value = (np.zeros((num_rows, heads, capacity, head_dim), np.float32) for _ in pair)
            key[kept], value[kept] = pair[0][kept], pair[1][kept]
            grown.append((key, value))
        self._caches = grown

    def copy_rows(self, source: Forward, source_row: int, row: int, num_rows: int, num_positions: int) -> None:
        assert isinstance(source, HostForward)
        to = slice(row, row + num_rows), slice(None), slice(num_positions)
        from_ = slice(source_row, source_row + num_rows), slice(None), slice(num_positions)
        for pair, source_pair in zip(self._caches, source._caches, strict=True):
            for cache_BHSD, source_BHSD in zip(pair, source_pair, strict=True):
                cache_BHSD[to] = source_BHSD[from_]
