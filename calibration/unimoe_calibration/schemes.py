"""The ways to quantize a product, and the plan that names one for each product of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from .statistics import Linear


class Scheme(StrEnum):
    """Number format of one product.

    w8a8: weights in int8, one scale for each column; inputs in int8, one static scale, or one relative to each row's
    largest value where a plan says so.
    w8: weights in 8 bits; inputs in float32, or rounded row by row where the engine does that.
    w4: weights in 4 bits, a scale for each block of rows in each column; inputs as for w8.
    fp8: weights and inputs in float8 (E4M3), scales as for w8a8.
    float: unchanged.
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
        """The manifest's name for the precision of a graph whose products all have this scheme."""
        return _PRECISIONS[self]


_PRECISIONS = {
    Scheme.W8A8: "int8",
    Scheme.W8: "int8-weights",
    Scheme.W4: "int4-weights",
    Scheme.FP8: "fp8",
    Scheme.FLOAT: "float32",
}
# The code of an input's largest value: int8 stays symmetric, E4M3 ends at 448.
LARGEST: Mapping[Scheme, float] = {Scheme.W8A8: 127.0, Scheme.FP8: 448.0}


class Engine(StrEnum):
    """The engine whose operators a graph uses. Engines differ in how they quantize weights alone."""

    ONNXRUNTIME = "onnxruntime"
    TENSORRT = "tensorrt"


@dataclass(frozen=True, kw_only=True)
class LinearPlan:
    """How one product is quantized. `input_range` (above 0) is the absolute value of its input, after smoothing,
    that the largest code stands for; None for schemes that do not quantize inputs, and with `per_row`. `per_row` (w8a8
    only) divides each row by its largest absolute value first, and multiplies the product by it."""

    scheme: Scheme
    input_range: float | None = None
    per_row: bool = False

    def __post_init__(self) -> None:
        if self.per_row:
            if self.scheme != Scheme.W8A8 or self.input_range is not None:
                raise ValueError(f"per_row is for {Scheme.W8A8} without an input_range, not {self.scheme}")
        elif self.scheme.quantizes_inputs and not (self.input_range and np.isfinite(self.input_range)):
            raise ValueError(f"input_range is {self.input_range}; {self.scheme} needs a finite one above 0")

    @property
    def input_scale(self) -> np.float32:
        """The value of one code; with `per_row`, as a share of the row's largest value."""
        largest = 1.0 if self.per_row else self.input_range
        assert largest is not None
        return np.float32(largest / LARGEST[self.scheme])


@dataclass(frozen=True, kw_only=True)
class QuantizationPlan:
    """How to quantize each product of a bundle; products that it does not name stay float.

    `smoothing`: factors [K] of a product's input channels, powers of two. The input arrives divided by them, and the
    weight is multiplied by them (smoothing.py says which products must share theirs). `arbitrary_codes`: the codes of a
    weight's first columns stand for all, which takes little time; such graphs measure a machine and compute nonsense.
    """

    engine: Engine
    linears: Mapping[Linear, LinearPlan]
    smoothing: Mapping[Linear, NDArray[np.float32]] = field(default_factory=dict)
    arbitrary_codes: bool = False

    def of_graph(self, graph: str) -> dict[str, LinearPlan]:
        """The plans of one graph's products, by the weight's name; without those that stay float."""
        return {
            linear.weight: plan
            for linear, plan in self.linears.items()
            if linear.graph == graph and plan.scheme != Scheme.FLOAT
        }

    def precision(self, graph: str) -> str:
        """The manifest's name for the graph's precision; several names, joined, where its products differ."""
        names = {plan.scheme.precision for linear, plan in self.linears.items() if linear.graph == graph}
        return "+".join(sorted(names)) or Scheme.FLOAT.precision
