"""Deciding how each product is quantized, from what its inputs looked like."""

from __future__ import annotations

from .schemes import Engine, LinearPlan, QuantizationPlan, Scheme
from .statistics import Statistics


def uniform_plan(statistics: Statistics, scheme: Scheme, engine: Engine) -> QuantizationPlan:
    """The plain way: one scheme for every product, each input's range its largest value, nothing smoothed."""
    linears = {}
    for linear, seen in statistics.linears.items():
        largest = seen.total().absolute_max if scheme.quantizes_inputs else None
        # What no token ever reached has no range: its weights alone are quantized.
        usable = Scheme.W8 if largest == 0 else scheme
        linears[linear] = LinearPlan(scheme=usable, input_range=largest or None)
    return QuantizationPlan(engine=engine, linears=linears)
