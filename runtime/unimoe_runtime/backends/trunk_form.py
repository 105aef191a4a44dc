"""A trunk graph's inputs beside the hidden state, in the form that its bundle has.

Form 1 (bundles of format version 1) takes cosines, sines and the mask as the host computes them, and rearranges them
in every layer. Form 2 takes them in the layout that attention needs, so that a layer repeats nothing that a step can
do once:

- `cos_BTF` and `sin_BTF` hold one angle for each pair of channels.
- Attention multiplies all query heads that share a key head in one product. The R query heads of a position are R
  rows: Q = T · R. `mask_B1QS` has the rows of a position one after another.
- Keys and values lie position by position, `key_cache_BSX` with X = key heads · D, so that nothing is transposed. The
  caches here have the shape [B, 1, S, X], which code that copies positions treats as one wide head.
- `hidden_NC` shares the memory of `hidden_BTC`: the residual, in the shape in which products add it.

B rows · T positions · N = B·T tokens · S cache capacity · D head dimension · F = D / 2 · H key/value heads
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.protocol import Array, StepInputs
from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.config import ModelConfig

Shapes = dict[str, tuple[tuple[int, ...], Any]]
"""Shape and numpy type by name."""


@dataclass(frozen=True, kw_only=True)
class TrunkForm:
    """The form of a model's trunks. `lean` is form 2."""

    model: ModelConfig
    lean: bool

    @classmethod
    def of(cls, bundle: Bundle) -> TrunkForm:
        """The form of a bundle's trunks, by its format version."""
        return cls(model=bundle.model, lean=bundle.format_version >= 2)

    @property
    def caches(self) -> tuple[str, str]:
        """Names of the inputs for keys and values; the outputs that replace them begin with "new_"."""
        return ("key_cache_BSX", "value_cache_BSX") if self.lean else ("key_cache_BHSD", "value_cache_BHSD")

    def cache_shape(self, num_rows: int, capacity: int) -> tuple[int, int, int, int]:
        """Shape of a layer's keys (and of its values): [B, H, S, D], or [B, 1, S, X] in form 2."""
        heads, size = self.model.num_kv_heads, self.model.head_dim
        return (num_rows, 1, capacity, heads * size) if self.lean else (num_rows, heads, capacity, size)

    def graph_shape(self, cache: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that the graph gives to a cache of `cache_shape`."""
        return (cache[0], *cache[2:]) if self.lean else cache

    def hidden_inputs(self, hidden_BTC: Any, hidden_NC: Any) -> dict[str, Any]:
        """The hidden state by the names of the inputs that read it."""
        return {"hidden_BTC": hidden_BTC, "hidden_NC": hidden_NC} if self.lean else {"hidden_BTC": hidden_BTC}

    def step_shapes(self, num_rows: int, length: int, capacity: int) -> Shapes:
        """Shapes and types of the arrays that `write` fills."""
        size = self.model.head_dim
        if not self.lean:
            angles = (num_rows, length, size)
            return {
                "cos_BTD": (angles, np.float32),
                "sin_BTD": (angles, np.float32),
                "mask_B1TS": ((num_rows, 1, length, capacity), np.bool_),
                "write_index_B": ((num_rows,), np.int64),
            }
        angles = (num_rows, length, size // 2)
        return {
            "cos_BTF": (angles, np.float32),
            "sin_BTF": (angles, np.float32),
            "mask_B1QS": ((num_rows, 1, length * self.model.queries_per_key, capacity), np.bool_),
            "write_index_B": ((num_rows,), np.int64),
        }

    @property
    def mask(self) -> str:
        """Name of the mask's input."""
        return "mask_B1QS" if self.lean else "mask_B1TS"

    def write(self, arrays: Mapping[str, Array], inputs: StepInputs, start: int = 0) -> None:
        """Fill arrays of `step_shapes` with a pass's positions from `start` on. Slots that the arrays lack are empty
        and masked; slots that they have beyond those of `inputs` are masked."""
        for name, angles in (("cos", inputs.cos_BTD), ("sin", inputs.sin_BTD)):
            target = arrays[f"{name}_BTF" if self.lean else f"{name}_BTD"]
            target[...] = angles[:, start : start + target.shape[1], : target.shape[2]]
        arrays["write_index_B"][...] = inputs.write_index_B + start if start else inputs.write_index_B
        mask: NDArray[np.bool_] = arrays[self.mask]
        rows, _, queries, capacity = mask.shape
        per_key = self.model.queries_per_key if self.lean else 1
        length = queries // per_key
        given = inputs.mask_B1TS[:, :, start : start + length, :capacity]
        slots = given.shape[3]
        if per_key > 1:
            mask.reshape(rows, 1, length, per_key, capacity)[..., :slots] = given[:, :, :, None]
        else:
            mask[..., :slots] = given
        if slots < capacity:
            mask[..., slots:] = False

    def step_inputs(self, inputs: StepInputs) -> dict[str, Array]:
        """New arrays of `step_shapes`, filled by `write`."""
        rows, _, length, capacity = inputs.mask_B1TS.shape
        shapes = self.step_shapes(rows, length, capacity)
        arrays = {name: np.empty(shape, dtype) for name, (shape, dtype) in shapes.items()}
        self.write(arrays, inputs)
        return arrays


def capacity_of(tensors: Mapping[str, Any]) -> int | None:
    """Slots of the cache among a graph's tensors; None if the graph is not a trunk."""
    cache = tensors.get("key_cache_BSX", tensors.get("key_cache_BHSD"))
    return None if cache is None else int(cache.shape[-2])


def plain_trunk_inputs(inputs: Mapping[str, Array], model: ModelConfig) -> dict[str, Array]:
    """A trunk's inputs in form 1, whichever form they have."""
    if "hidden_NC" not in inputs:
        return dict(inputs)
    mask_B1QS = inputs["mask_B1QS"]
    plain = {name: inputs[name] for name in ("hidden_BTC", "write_index_B")}
    plain["mask_B1TS"] = mask_B1QS[:, :, :: model.queries_per_key]
    for name in ("cos", "sin"):
        plain[f"{name}_BTD"] = np.concatenate([inputs[f"{name}_BTF"]] * 2, axis=-1)
    for name in ("key_cache", "value_cache"):
        cache_BSX = inputs[f"{name}_BSX"]
        split = cache_BSX.reshape(*cache_BSX.shape[:2], model.num_kv_heads, model.head_dim)
        plain[f"{name}_BHSD"] = np.ascontiguousarray(split.transpose(0, 2, 1, 3))
    return plain


def trunk_outputs_like(outputs: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """A trunk's outputs of form 1 in the form that its inputs had."""
    result = dict(outputs)
    if "hidden_NC" in inputs:
        for name in ("new_key_cache", "new_value_cache"):
            cache_BHSD = result.pop(f"{name}_BHSD")
            rows, _, capacity, _ = cache_BHSD.shape
            result[f"{name}_BSX"] = np.ascontiguousarray(cache_BHSD.transpose(0, 2, 1, 3)).reshape(rows, capacity, -1)
    return result
