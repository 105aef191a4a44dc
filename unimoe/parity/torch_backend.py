"""The torch model as a reference for graphs. `parity` imports it to compare a bundle with a checkpoint.

B rows · T positions · S cache capacity · N = B·T tokens · C hidden · E dynamic experts · K codebooks
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unimoe.generate import TorchLanguageModel
from unimoe.model import ModelOutput, UniMoE
from unimoe.vision import VisionTower
from unimoe_runtime.backends.host_forward import HOST_ROWS, HostForward
from unimoe_runtime.backends.protocol import Array, Forward
from unimoe_runtime.backends.trunk_form import plain_trunk_inputs, trunk_outputs_like
from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.errors import BackendError
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.synthesis.language_model import Observer


class TorchBackend:
    """Runs a bundle's language-model graphs, and its vision graph, with the modules of the torch model."""

    name, on_host, lanes = "torch", True, 1
    row_counts = HOST_ROWS

    def __init__(self, bundle: Bundle, model: UniMoE, vision: VisionTower | None = None) -> None:
        self.bundle = bundle
        self._model = model
        self._vision = vision

    @torch.inference_mode()
    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = inputs
        if graph.endswith(".trunk"):
            inputs = plain_trunk_inputs(inputs, self.bundle.model)
        tensors = {name: torch.tensor(array) for name, array in inputs.items()}
        match graph.split("."):
            case ["layers", layer, "trunk"]:
                outputs = self._trunk(int(layer), tensors)
            case ["layers", layer, "expert", expert]:
                outputs = self._expert(int(layer), int(expert), tensors)
            case ["head"]:
                outputs = {"logits_NKV": self._model.logits(self._model.final_norm(tensors["hidden_NC"]))}
            case ["vision"] if self._vision is not None:
                return self._vision.run(graph, inputs)
            case _:
                raise BackendError(f"the torch reference has no {graph}; it holds no codec")
        arrays = {name: tensor.numpy() for name, tensor in outputs.items()}
        return trunk_outputs_like(arrays, given) if graph.endswith(".trunk") else arrays

    def start(self, num_rows: int) -> Forward:
        return HostForward(self, num_rows)

    def load(self, graphs: Iterable[str] | None = None) -> None:
        """Do nothing: the model is in memory."""

    def residency(self) -> None:
        return None

    def close(self) -> None:
        """Do nothing: the caller owns the model."""

    def _trunk(self, index: int, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        layer: Any = self._model.layers[index]
        hidden_BTC, cos_BTD, sin_BTD = inputs["hidden_BTC"], inputs["cos_BTD"], inputs["sin_BTD"]
        # The module appends to its past, which is the slots before the first written one.
        begin = int(inputs["write_index_B"][0])
        end = begin + hidden_BTC.shape[1]
        caches = inputs["key_cache_BHSD"].clone(), inputs["value_cache_BHSD"].clone()
        past = caches[0][:, :, :begin], caches[1][:, :, :begin]
        mask_B1TS = inputs["mask_B1TS"][..., :end]
        attended_BTC, new, _ = layer.attention(layer.attention_norm(hidden_BTC), cos_BTD, sin_BTD, mask_B1TS, past)
        for cache, written in zip(caches, new, strict=True):
            cache[:, :, :end] = written
        residual_NC = (hidden_BTC + attended_BTC).flatten(0, 1)
        expert_input_NC = layer.moe_norm(residual_NC)
        nothing_N0 = expert_input_NC[:, :0]
        routing = layer.moe.router(expert_input_NC) if layer.moe.router is not None else None
        accumulator_NC = residual_NC
        if layer.moe.shared is not None:
            weights_NS = None if routing is None else routing.shared_weights_NS
            accumulator_NC = residual_NC + layer.moe.shared(expert_input_NC, weights_NS)
        return {
            "accumulator_NC": accumulator_NC,
            "expert_input_NC": expert_input_NC,
            "weights_NE": nothing_N0 if routing is None else routing.weights_NE,
            "router_logits_NR": nothing_N0 if routing is None else routing.logits_NR,
            "new_key_cache_BHSD": caches[0],
            "new_value_cache_BHSD": caches[1],
        }

    def _expert(self, index: int, expert: int, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        experts: Any = self._model.layers[index].moe.experts  # type: ignore[union-attr]
        accumulator_NC, weight_N1 = inputs["accumulator_NC"], inputs["weight_N1"]
        weights_NE = weight_N1.new_zeros(len(weight_N1), len(experts.gate_up))
        weights_NE[:, expert : expert + 1] = weight_N1
        return {"new_accumulator_NC": experts(accumulator_NC, inputs["expert_input_NC"], weights_NE, weights_NE > 0)}


class ObservedModel:
    """The torch model as a `generation.LanguageModel` that reports each layer's routing."""

    def __init__(self, model: UniMoE, observer: Observer) -> None:
        self._model = model
        self._observer = observer
        self._generator = TorchLanguageModel(model)

    def prefill(self, prompt: Prompt) -> None:
        with self._observed():
            self._generator.prefill(prompt)

    def step(self, codes_BK: NDArray[np.int64], position_B: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._observed():
            return self._generator.step(codes_BK, position_B)

    @contextmanager
    def _observed(self) -> Iterator[None]:
        handle = self._model.register_forward_hook(self._report)
        try:
            yield
        finally:
            handle.remove()

    def _report(self, _module: object, _inputs: object, output: ModelOutput) -> None:
        if not output.routings:
            nothing_N0 = np.zeros((output.hidden_BTC.shape[0] * output.hidden_BTC.shape[1], 0), dtype=np.float32)
            for layer in range(self._model.config.num_layers):
                self._observer(layer, nothing_N0, nothing_N0)
        for layer, routing in enumerate(output.routings):
            self._observer(layer, routing.logits_NR.numpy(), routing.weights_NE.numpy())
