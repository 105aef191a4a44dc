"""Bytes of a model at each precision, from its configuration or from a bundle's files."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.bundle.reader import EMBEDDINGS, Bundle, expert_name, trunk_name, weight_shapes
from unimoe_runtime.checkpoint.folder import vision_tensor_shapes
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import ConfigError
from unimoe_runtime.hardware.precisions import scheme_precision
from unimoe_runtime.hardware.targets import Target
from unimoe_runtime.vision.tower import VisionConfig

BITS = {"float32": 32, "bfloat16": 16, "float16": 16, "int8": 8, "int8-weights": 8, "fp8": 8, "int4": 4}
"""Precisions with the bits of a product's weight. In all of them norms, biases and routers are float32."""

_SCALE_BYTES = 4
_INT4_BLOCK = 32
"""Inputs that share a scale; in 8 bits a whole column shares one. On a CPU `int8-weights` has one for each 64 or 32
inputs, up to an eighth more bytes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelBytes:
    """Bytes of a language model's weights. `trunks_L`, `experts_LR`: of each trunk and of each routed expert.

    `embeddings` stay on the host; `extra` is outside the language model: codec, vision tower.
    """

    precision: str
    trunks_L: NDArray[np.float64]
    experts_LR: NDArray[np.float64]
    head: float
    embeddings: float
    extra: float

    @property
    def always(self) -> float:
        """Bytes of the weights that every step reads."""
        return float(self.trunks_L.sum()) + self.head

    @property
    def resident(self) -> float:
        """Bytes in a device's memory with every expert resident."""
        return self.always + float(self.experts_LR.sum()) + self.extra


def plan_precisions(target: Target) -> list[str]:
    """A target's precisions by the names of `BITS`, by preference: floating point, then those of calibration."""
    floats = [precision for precision in BITS if BITS[precision] >= 16 and precision in target.precisions]
    return [*floats, *map(scheme_precision, target.schemes)]


def graph_bytes(graph: str, model: ModelConfig, precision: str) -> float:
    """Bytes of one language-model graph's weights, scales included. Raises ConfigError for an unknown precision."""
    if precision not in BITS:
        raise ConfigError(f"precision is {precision!r}; it must be one of {', '.join(BITS)}")
    shapes = weight_shapes(graph, model)
    assert shapes is not None, f"{graph} is not a graph of the language model"
    return sum(_tensor_bytes(name, shape, precision) for name, shape in shapes.items())


def _tensor_bytes(name: str, shape: tuple[int, ...], precision: str) -> float:
    if len(shape) != 2 or name == "router.weight":
        return 4.0 * prod(shape)
    bits = BITS[precision]
    blocks = {8: 1, 4: -(-shape[0] // _INT4_BLOCK)}.get(bits, 0)
    return prod(shape) * bits / 8 + _SCALE_BYTES * blocks * shape[1]


def model_bytes(model: ModelConfig, precision: str, *, extra: float = 0.0) -> ModelBytes:
    """Bytes of a model whose products all have one precision."""
    experts = [
        graph_bytes(expert_name(layer, 0), model, precision) if model.num_routed_experts else 0.0
        for layer in range(model.num_layers)
    ]
    embedding_bits = max(16, BITS[precision]) if precision != "float32" else 32
    rows = model.text_vocab_size + model.num_codebooks * model.codec_vocab_size
    return ModelBytes(
        precision=precision,
        trunks_L=np.array([graph_bytes(trunk_name(layer), model, precision) for layer in range(model.num_layers)]),
        experts_LR=np.repeat(np.array(experts)[:, None], model.num_routed_experts, axis=1),
        head=graph_bytes("head", model, precision),
        embeddings=rows * model.hidden_size * embedding_bits / 8,
        extra=extra,
    )


def stored_bytes(bundle: Bundle) -> ModelBytes:
    """Bytes of a stored bundle, each graph in its own precision."""
    model = bundle.model

    def weights(graph: str) -> float:
        return float(bundle.files[bundle.graphs[graph].weights].bytes)

    experts = [
        [weights(expert_name(layer, expert)) for expert in range(model.num_routed_experts)]
        for layer in range(model.num_layers)
    ]
    return ModelBytes(
        precision=stored_precision(bundle),
        trunks_L=np.array([weights(trunk_name(layer)) for layer in range(model.num_layers)]),
        experts_LR=np.array(experts, dtype=np.float64).reshape(model.num_layers, model.num_routed_experts),
        head=weights("head"),
        embeddings=float(bundle.files[EMBEDDINGS].bytes),
        extra=beside_bytes(bundle),
    )


def stored_precision(bundle: Bundle) -> str:
    """The precision of most bytes of the experts and trunks, by the names of `BITS`; a graph of mixed precision counts
    as the quantized one, whose name comes last."""
    totals: dict[str, float] = {}
    for name, graph in bundle.graphs.items():
        if name.startswith("layers."):
            precision = graph.precision.split("+")[-1]
            precision = precision if precision in BITS else precision.removesuffix("-weights")
            totals[precision] = totals.get(precision, 0.0) + bundle.files[graph.weights].bytes
    return max(totals, key=lambda precision: totals[precision])


def beside_bytes(bundle: Bundle) -> float:
    """Bytes of a bundle's stored graphs outside the language model's step: codec and vision."""
    files = {
        graph.weights for name, graph in bundle.graphs.items() if not name.startswith("layers.") and name != "head"
    }
    return float(sum(bundle.files[file].bytes for file in files))


def vision_bytes(vision: VisionConfig) -> float:
    """Bytes of a vision tower's weights in 16 bits."""
    return 2.0 * sum(prod(shape) for shape in vision_tensor_shapes(vision).values())
