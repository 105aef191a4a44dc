"""The oracle: a bundle's graphs computed in numpy from its floating-point weights.

It follows the definitions, not the graphs, and is not optimized for speed. It has no EnCodec.

B rows · T positions · N = B·T tokens · S cache capacity · H heads · D head dimension · C hidden
R router rows · E dynamic experts · K codebooks · V codec vocabulary
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.host_forward import HOST_ROWS, HostForward
from unimoe_runtime.backends.numpy import convnext_codec, dac_codec, harmonic_codec, vision
from unimoe_runtime.backends.numpy.ops import Floats, Weights, attention, rms_norm, rotate, swiglu
from unimoe_runtime.backends.protocol import Array
from unimoe_runtime.backends.trunk_form import plain_trunk_inputs, trunk_outputs_like
from unimoe_runtime.bundle.manifest import HALVED
from unimoe_runtime.bundle.reader import DTYPES, Bundle, language_model_graphs
from unimoe_runtime.codec.bundle_codec import DECODER, ENCODER
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import BackendError, BundleError
from unimoe_runtime.model.routing import route

CodecGraph = Callable[[Mapping[str, Any], Weights, Mapping[str, NDArray[Any]]], dict[str, Any]]

CODEC_GRAPHS: Final[Mapping[tuple[str | None, str], CodecGraph]] = {
    ("convnext", ENCODER): convnext_codec.encoder,
    ("convnext", DECODER): convnext_codec.decoder,
    ("harmonic", ENCODER): convnext_codec.encoder,
    ("harmonic", DECODER): harmonic_codec.decoder,
    ("dac", ENCODER): dac_codec.encoder,
    ("dac", DECODER): dac_codec.decoder,
}
"""A codec's graph by its kind and name: a function of the manifest's description, the weights and the inputs."""


def trunk(config: ModelConfig, weights: Weights, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The trunk graph's outputs for its inputs, both by the graph's names, in either form (`trunk_form`)."""
    given, inputs = inputs, plain_trunk_inputs(inputs, config)
    hidden_BTC, cos_BTD, sin_BTD = inputs["hidden_BTC"], inputs["cos_BTD"], inputs["sin_BTD"]
    rows, length, channels = hidden_BTC.shape
    head_dim, heads, kv_heads = config.head_dim, config.num_heads, config.num_kv_heads
    qkv = rms_norm(hidden_BTC, weights["attention_norm.weight"], config.rms_norm_eps) @ weights["qkv.weight"]
    if config.qkv_bias:
        qkv = qkv + weights["qkv.bias"]
    qkv_BHTD = np.swapaxes(qkv.reshape(rows, length, -1, head_dim), 1, 2)
    q, k, v = np.split(qkv_BHTD, [heads, heads + kv_heads], axis=1)
    key_cache, value_cache = inputs["key_cache_BHSD"].copy(), inputs["value_cache_BHSD"].copy()
    for row, begin in enumerate(inputs["write_index_B"]):
        key_cache[row, :, begin : begin + length] = rotate(k, cos_BTD, sin_BTD)[row]
        value_cache[row, :, begin : begin + length] = v[row]
    in_turn = "hidden_NC" in given
    attended = attention(
        rotate(q, cos_BTD, sin_BTD), key_cache, value_cache, inputs["mask_B1TS"], key_heads_in_turn=in_turn
    )
    attended_NC = np.swapaxes(attended, 1, 2).reshape(rows * length, heads * head_dim)
    residual_NC = hidden_BTC.reshape(-1, channels) + attended_NC @ weights["o.weight"]
    expert_input_NC = rms_norm(residual_NC, weights["moe_norm.weight"], config.rms_norm_eps)
    if config.num_router_rows:
        router_logits_NR = expert_input_NC @ weights["router.weight"]
    else:
        router_logits_NR = expert_input_NC[:, :0]
    weights_NE, shared_NS = route(router_logits_NR, config)
    accumulator_NC = residual_NC
    if config.num_shared_experts:
        inner = swiglu(expert_input_NC @ weights["shared.gate_up.weight"])
        inner = inner.reshape(len(inner), config.num_shared_experts, -1) * shared_NS[:, :, None]
        accumulator_NC = residual_NC + inner.reshape(len(inner), -1) @ weights["shared.down.weight"]
    outputs = {
        "accumulator_NC": accumulator_NC,
        "expert_input_NC": expert_input_NC,
        "weights_NE": weights_NE,
        "router_logits_NR": router_logits_NR,
        "new_key_cache_BHSD": key_cache,
        "new_value_cache_BHSD": value_cache,
    }
    return trunk_outputs_like(outputs, given)


def expert(weights: Weights, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The expert graph's output: accumulator + weight * expert(x) where the weight is above 0."""
    weight_N1, x_NC = inputs["weight_N1"], inputs["expert_input_NC"]
    output_NC = swiglu(x_NC @ weights["gate_up.weight"]) @ weights["down.weight"]
    added_NC = np.where(weight_N1 > 0, weight_N1 * output_NC, 0)
    return {"new_accumulator_NC": inputs["accumulator_NC"] + added_NC}


def head(config: ModelConfig, weights: Weights, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Final norm and the logits of all codebooks."""
    normed_NC = rms_norm(inputs["hidden_NC"], weights["norm.weight"], config.rms_norm_eps)
    logits = normed_NC @ weights["head.weight"]
    return {"logits_NKV": logits.reshape(-1, config.num_codebooks, config.codec_vocab_size)}


def codec_kind(bundle: Bundle) -> str | None:
    """The kind of a bundle's codec, such as "convnext"; None without a codec."""
    return bundle.codec["kind"] if bundle.codec else None


class NumpyBackend:
    """Backend over a floating-point bundle's weights; the reference for the other backends."""

    name, on_host, lanes = "numpy", True, 1
    row_counts = HOST_ROWS

    def __init__(self, bundle: Bundle) -> None:
        quantized = sorted({graph.precision for graph in bundle.graphs.values()} - set(DTYPES))
        if quantized:
            raise BackendError(
                f"the numpy backend computes floating-point bundles only, {bundle.path} is {quantized[0]}"
            )
        self.bundle = bundle
        self._weights: dict[str, dict[str, Floats]] = {}

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        match graph.split("."):
            case ["layers", _, "trunk"]:
                return trunk(self.bundle.model, self._load(graph), inputs)
            case ["layers", _, "expert", _]:
                return expert(self._load(graph), inputs)
            case ["head"]:
                return head(self.bundle.model, self._load(graph), inputs)
            case ["vision"] if self.bundle.vision is not None:
                return vision.tower(self.bundle.vision, self._load(graph), inputs)
            case ["codec_encoder" | "codec_decoder"] if (key := (codec_kind(self.bundle), graph)) in CODEC_GRAPHS:
                try:
                    return CODEC_GRAPHS[key](self.bundle.codec or {}, self._load(graph), inputs)
                except KeyError as error:
                    raise BundleError(f"{self.bundle.path}: its codec lacks {error}; export the bundle again") from None
        raise BackendError(f"the numpy backend has no {graph} of this bundle; run it with --backend onnxruntime")

    def start(self, num_rows: int) -> HostForward:
        return HostForward(self, num_rows)

    def load(self, graphs: Iterable[str] | None = None) -> None:
        for graph in graphs or language_model_graphs(self.bundle.model):
            self._load(graph)

    def residency(self) -> None:
        return None

    def close(self) -> None:
        self._weights.clear()

    def _load(self, graph: str) -> dict[str, Floats]:
        if graph not in self._weights:
            self.bundle.graph(graph)
            tensors = self.bundle.weights(graph)
            self._weights[graph] = {name.removesuffix(HALVED): tensors.float32(name) for name in tensors.entries}
        return self._weights[graph]
