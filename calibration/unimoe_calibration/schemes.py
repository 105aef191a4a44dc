"""What can be quantized, and how: the linear layers of a bundle's graphs, and the number formats for them."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from unimoe_runtime.bundle import language_model_graphs, weight_shapes
from unimoe_runtime.config import ModelConfig


class Scheme(StrEnum):
    """Number format of one linear layer.

    w8a8: weights in int8, a scale a column; inputs in int8, one static scale.
    w8: weights in 8 bits, inputs in float32 (or rounded row by row, where the engine does that).
    w4: weights in 4 bits, a scale a block along the inputs and column; inputs as for w8.
    fp8: weights and inputs in float8 (E4M3), scales as for w8a8.
    float: as it was.
    """

    W8A8 = "w8a8"
    W8 = "w8"
    W4 = "w4"
    FP8 = "fp8"
    FLOAT = "float"

    @property
    def quantizes_inputs(self) -> bool:
        return self in (Scheme.W8A8, Scheme.FP8)

    @property
    def precision(self) -> str:
        """What the manifest calls the precision of a graph whose products are all of this scheme."""
        return _PRECISIONS[self]


_PRECISIONS = {
    Scheme.W8A8: "int8",
    Scheme.W8: "int8-weights",
    Scheme.W4: "int4-weights",
    Scheme.FP8: "fp8",
    Scheme.FLOAT: "float32",
}


class Linear(NamedTuple):
    """One product with a weight: the graph it is in, and the weight's name there."""

    graph: str
    weight: str

    def __str__(self) -> str:
        return f"{self.graph}/{self.weight}"


def linears(model: ModelConfig) -> Iterator[Linear]:
    """Everything that is quantized, in the order of a step: all matrices of the language model but the routers'."""
    for graph in language_model_graphs(model):
        for name, shape in (weight_shapes(graph, model) or {}).items():
            if len(shape) == 2 and name != "router.weight":
                yield Linear(graph, name)
