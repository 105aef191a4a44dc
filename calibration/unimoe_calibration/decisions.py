"""Deciding how each product is quantized, from its inputs' statistics: smoothing and ranges by output error.

K input channels · N outputs · M rows kept of an input
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unimoe_runtime.bundle.reader import Bundle, expert_name, trunk_name
from unimoe_runtime.config import ModelConfig

from .gathering import Progress
from .ranges import input_range
from .schemes import Engine, LinearPlan, QuantizationPlan, Scheme
from .smoothing import STRENGTHS, balance, share_among_heads
from .statistics import Histogram, Linear, LinearStatistics, Statistics
from .weights import Floats, block_size, dequantize_weight, round_inputs

# The number of outputs whose error is measured; more of them cost time and change no decision.
_NUM_COLUMNS = 512
# The methods that `auto` tries: the quick ones while it searches the strength of the smoothing, then the others too.
# Float8 keeps its relative precision however wide the range is.
_QUICK_METHODS = ("max", "percentile")
_ALL_METHODS = ("max", "percentile", "mse", "entropy")
_PER_ROW = "per row"
# Products that share the router's input.
_ROUTED = ("shared.gate_up.weight", "gate_up.weight")
# Products whose input is a SwiGLU's output. `auto` gives all products of one name the same form, so that a model's
# experts keep one shape: a range for each row where a static range errs by more than this, and the row's range by at
# most that share of it.
_AFTER_SWIGLU = ("down.weight", "shared.down.weight")
_STATIC_ERROR = 0.02
_WORTHWHILE = 2 / 3


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The reasons for one product's plan. `error` is its outputs' error on the rows kept, as a share of their root
    mean square; None where no rows reached it or it was not measured. `method` is None where its inputs have no static
    range."""

    plan: LinearPlan
    strength: float
    method: str | None
    error: float | None
    num_rows: int

    def under(self, plan: LinearPlan) -> Decision:
        """The decision with the plan of a mixture, which keeps the smoothing; such a plan has no range, and only that
        of a float product a known error."""
        if plan == self.plan:
            return self
        return replace(self, plan=plan, method=None, error=0.0 if plan.scheme == Scheme.FLOAT else None)

    def record(self) -> dict[str, Any]:
        scaled = self.plan.scheme.quantizes_inputs
        return {
            "scheme": str(self.plan.scheme),
            "inputs": _PER_ROW if self.plan.per_row else "static" if scaled else "float32",
            "input_range": self.plan.input_range,
            "input_scale": float(self.plan.input_scale) if scaled else None,
            "method": self.method,
            "smoothing_strength": self.strength,
            "error": self.error,
            "rows": self.num_rows,
        }


def choose_schemes(
    statistics: Statistics,
    scheme: Scheme,
    engine: Engine,
    below: Mapping[tuple[int, int], int],
    fallback: str,
) -> tuple[dict[Linear, Scheme], dict[str, str]]:
    """Each product's scheme, and for every graph that does not get the requested scheme a label that says why.

    `below`: the tokens of each (layer, expert) below the floor; `fallback`: the scheme of such an expert
    (settings.FALLBACKS). Schemes that leave inputs alone need no tokens.
    """
    schemes: dict[Linear, Scheme] = {}
    labels: dict[str, str] = {}
    scarce = {expert_name(layer, expert): tokens for (layer, expert), tokens in below.items()}
    for linear, seen in statistics.linears.items():
        chosen = scheme
        if scheme.quantizes_inputs and linear.graph in scarce:
            tokens = scarce[linear.graph]
            if fallback == "float":
                chosen, word = Scheme.FLOAT, "float"
            elif fallback == "nearest" and seen.total().absolute_max > 0:
                word = "nearest"
            else:
                chosen, word = Scheme.W8, "weight-only"
            labels[linear.graph] = f"{word}: {tokens} tokens received"
        if chosen.quantizes_inputs and not seen.total().absolute_max:
            chosen = Scheme.W8
            labels.setdefault(linear.graph, "weight-only: its inputs were all 0")
        if chosen == Scheme.W4 and engine == Engine.TENSORRT and seen.num_channels % block_size(seen.num_channels, 4):
            chosen = Scheme.W8
            labels[linear.graph] = f"int8: {seen.num_channels} inputs of {linear.weight} are no whole blocks"
        schemes[linear] = chosen
    return schemes, labels


def plan_quantization(
    bundle: Bundle,
    statistics: Statistics,
    schemes: Mapping[Linear, Scheme],
    engine: Engine,
    *,
    method: str = "auto",
    progress: Progress | None = None,
) -> tuple[QuantizationPlan, dict[Linear, Decision]]:
    """Smoothing and input ranges for each product, and the decisions behind them.

    Products that share their input share its factors. The smoothing's strength has the least error on the rows that
    the statistics kept; with the method "auto" so has the range. "auto" also decides which products of w8a8 get a
    range for each row. Memory holds one layer's weights.
    """
    groups = list(_groups(bundle.model, statistics))
    chosen: list[_Decided] = []
    per_row: dict[int, _Decided] = {}
    for index, group in enumerate(groups):
        if progress is not None:
            progress(str(group[0]), index, len(groups))
        products = [_Product.of(bundle, statistics.linears[linear]) for linear in group]
        chosen.append(_decide(bundle, products, schemes, engine, method))
        if method == "auto" and group[0].weight in _AFTER_SWIGLU and schemes[group[0]] == Scheme.W8A8:
            per_row[index] = _decide(bundle, products, schemes, engine, _PER_ROW)
    for name in _AFTER_SWIGLU:
        indices = [index for index in per_row if groups[index][0].weight == name]
        if _worth_rows([chosen[index] for index in indices], [per_row[index] for index in indices]):
            for index in indices:
                chosen[index] = per_row[index]
    decisions: dict[Linear, Decision] = {}
    smoothing: dict[Linear, Floats] = {}
    for group, (factors_K, decided) in zip(groups, chosen, strict=True):
        decisions.update(decided)
        if (factors_K != 1).any():
            smoothing.update(dict.fromkeys(group, factors_K))
            if any(linear.weight in _ROUTED for linear in group) and bundle.model.num_router_rows:
                trunk = ".".join(group[0].graph.split(".")[:2]) + ".trunk"
                smoothing[Linear(trunk, "router.weight")] = factors_K
    linears = {linear: decisions[linear].plan for linear in statistics.linears}
    return QuantizationPlan(engine=engine, linears=linears, smoothing=smoothing), decisions


def uniform_plan(statistics: Statistics, scheme: Scheme, engine: Engine) -> QuantizationPlan:
    """A plan without search: one scheme for every product, each input's range its largest value, no smoothing."""
    linears = {}
    for linear, seen in statistics.linears.items():
        largest = seen.total().absolute_max if scheme.quantizes_inputs else None
        # A product that no token reached has no range: only its weights are quantized.
        usable = Scheme.W8 if largest == 0 else scheme
        linears[linear] = LinearPlan(scheme=usable, input_range=largest or None)
    return QuantizationPlan(engine=engine, linears=linears)


def _groups(model: ModelConfig, statistics: Statistics) -> Iterator[list[Linear]]:
    """Products that share their input, and so their smoothing, in the order of a step."""
    for layer in range(model.num_layers):
        trunk = trunk_name(layer)
        experts = [expert_name(layer, expert) for expert in range(model.num_routed_experts)]
        yield [Linear(trunk, "qkv.weight")]
        yield [Linear(trunk, "o.weight")]
        shared = [Linear(trunk, "shared.gate_up.weight")] if model.num_shared_experts else []
        if routed := shared + [Linear(expert, "gate_up.weight") for expert in experts]:
            yield routed
        if shared:
            yield [Linear(trunk, "shared.down.weight")]
        yield from ([Linear(expert, "down.weight")] for expert in experts)
    yield [Linear("head", "head.weight")]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Product:
    """The part of a group's product that the search uses: some rows of its input, some columns of its weight."""

    seen: LinearStatistics
    weight_KN: Floats
    channel_max_K: Floats
    histogram: Histogram
    outputs_MN: Floats

    @classmethod
    def of(cls, bundle: Bundle, seen: LinearStatistics) -> _Product:
        weight_KN = bundle.weights(seen.linear.graph).read(seen.linear.weight)
        total = seen.total()
        step = -(-weight_KN.shape[1] // _NUM_COLUMNS)
        weight_KN = np.ascontiguousarray(weight_KN[:, ::step])
        return cls(
            seen=seen,
            weight_KN=weight_KN,
            channel_max_K=total.channel_max_C,
            histogram=total.histogram,
            outputs_MN=seen.rows_MC @ weight_KN,
        )


_Decided = tuple[Floats, dict[Linear, Decision]]
"""The factors of a group's common input, and its products' decisions."""


def _worth_rows(static: Sequence[_Decided], per_row: Sequence[_Decided]) -> bool:
    """Whether a range for each row is better for these groups, by the medians of their errors."""
    errors = [
        [decision.error for _, decided in form for decision in decided.values() if decision.error is not None]
        for form in (static, per_row)
    ]
    if not all(errors):
        return False
    error, error_of_rows = (float(np.median(each)) for each in errors)
    return error > _STATIC_ERROR and error_of_rows <= _WORTHWHILE * error


def _decide(
    bundle: Bundle,
    products: Sequence[_Product],
    schemes: Mapping[Linear, Scheme],
    engine: Engine,
    method: str,
) -> _Decided:
    """One group by a method of METHODS, or with a range for each row."""
    input_max_K = np.max([product.channel_max_K for product in products], axis=0)
    weight_max_K = np.max([np.abs(product.weight_KN).max(axis=1) for product in products], axis=0)
    if products[0].seen.linear.weight == "o.weight":
        input_max_K, weight_max_K = (share_among_heads(each, bundle) for each in (input_max_K, weight_max_K))

    def decide(strength: float, methods: Sequence[str]) -> _Decided:
        factors_K = balance(input_max_K, weight_max_K, strength)
        return factors_K, {
            product.seen.linear: _quantized(product, factors_K, strength, schemes[product.seen.linear], engine, methods)
            for product in products
        }

    def error(strength: float) -> float:
        decided = decide(strength, _QUICK_METHODS if method == "auto" else (method,))[1]
        return sum((decision.error or 0.0) ** 2 for decision in decided.values())

    only_float8 = all(schemes[product.seen.linear] == Scheme.FP8 for product in products)
    methods = _QUICK_METHODS if only_float8 else _ALL_METHODS
    return decide(min(STRENGTHS, key=error), methods if method == "auto" else (method,))


def _quantized(
    product: _Product, factors_K: Floats, strength: float, scheme: Scheme, engine: Engine, methods: Sequence[str]
) -> Decision:
    """The best plan of one product whose input is divided by the factors: that of the method with the least error."""
    rows_MK: Floats = product.seen.rows_MC / factors_K
    num_rows = product.seen.num_rows
    weight_KN = dequantize_weight(product.weight_KN * factors_K[:, None], scheme, engine)
    if not scheme.quantizes_inputs:
        error = _relative_error(rows_MK @ weight_KN, product.outputs_MN)
        return Decision(plan=LinearPlan(scheme=scheme), strength=strength, method=None, error=error, num_rows=num_rows)
    if tuple(methods) == (_PER_ROW,):
        plan = LinearPlan(scheme=scheme, per_row=True)
        error = _relative_error(round_inputs(rows_MK, scheme, None) @ weight_KN, product.outputs_MN)
        return Decision(plan=plan, strength=strength, method=None, error=error, num_rows=num_rows)
    histogram = product.histogram
    if (factors_K != 1).any():
        # The histogram of all rows describes the unsmoothed input; the smoothed input's comes from the rows kept.
        histogram = Histogram()
        histogram.add(np.abs(rows_MK))
    largest = float((product.channel_max_K / factors_K).max())
    ranges = {name: input_range(histogram, largest, name) for name in methods}
    decisions = [
        Decision(
            plan=LinearPlan(scheme=scheme, input_range=limit),
            strength=strength,
            method=name,
            error=_relative_error(round_inputs(rows_MK, scheme, limit) @ weight_KN, product.outputs_MN),
            num_rows=num_rows,
        )
        for name, limit in ranges.items()
    ]
    return min(decisions, key=lambda decision: decision.error or 0.0)


def _relative_error(outputs_MN: Floats, expected_MN: Floats) -> float | None:
    """Root mean square of the difference over that of the expected outputs, to four digits: machines differ beyond."""
    if not len(expected_MN):
        return None
    power = float(np.square(expected_MN, dtype=np.float64).mean())
    error = float(np.square(outputs_MN - expected_MN, dtype=np.float64).mean())
    return float(f"{(error / power) ** 0.5:.3e}") if power else 0.0
