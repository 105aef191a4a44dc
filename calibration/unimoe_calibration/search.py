"""Which graphs get more bits: a greedy search along the line of least loss for each size, or each latency.

It starts with every graph in its cheapest format and repeatedly upgrades the graph whose loss falls most for the cost.
The search assumes that losses of single graphs add up; the reported loss is measured on the mixture itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from unimoe_runtime.errors import CalibrationError

from .costs import Costs
from .sensitivity import Sensitivity

_CURVE_POINTS = 9

Choice = Mapping[str, str]
"""Scheme by graph."""


@dataclass(frozen=True, kw_only=True)
class MixtureLimits:
    """The limits of a mixture: bytes of the language model's graphs, their milliseconds in a decode step, loss in
    nats. With a limit on loss the search returns the smallest mixture, otherwise the most faithful. None: no limit."""

    max_bytes: int | None = None
    max_latency_ms: float | None = None
    max_loss: float | None = None

    def fit(self, point: Point) -> bool:
        fits_bytes = self.max_bytes is None or point.num_bytes <= self.max_bytes
        if self.max_latency_ms is None:
            return fits_bytes
        return fits_bytes and point.latency_ms is not None and point.latency_ms <= self.max_latency_ms


@dataclass(frozen=True, kw_only=True)
class Point:
    """A mixture's costs. `predicted_loss`: the sum over its graphs; `loss`: the measured one, None if not measured."""

    num_bytes: int
    latency_ms: float | None
    predicted_loss: float
    loss: float | None = None

    def __str__(self) -> str:
        latency = "" if self.latency_ms is None else f" and {self.latency_ms:.3g} ms a step"
        return f"{self.num_bytes} bytes{latency}"


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """The scheme chosen for each graph, its costs, and the line of mixtures that it was chosen from."""

    choice: Choice
    point: Point
    curve: tuple[Point, ...]
    sensitivities: tuple[Sensitivity, ...]

    def record(self) -> dict[str, Any]:
        """The mixture as JSON."""
        return {
            "choice": dict(self.choice),
            **asdict(self.point),
            "curve": [asdict(point) for point in self.curve],
            "sensitivity": [sensitivity.record() for sensitivity in self.sensitivities],
        }


@dataclass(frozen=True, kw_only=True)
class _Move:
    graph: str
    scheme: str
    cost: float
    gain: float


class Search:
    """The line of mixtures for the given costs and losses of graphs. `base` is the lossless scheme.

    Costs are bytes or, with `by_latency`, milliseconds, which must then be known.
    """

    def __init__(
        self,
        graphs: Sequence[str],
        base: str,
        sensitivities: Sequence[Sensitivity],
        num_bytes: Costs,
        latency_ms: Costs | None,
        *,
        by_latency: bool,
    ) -> None:
        self._bytes, self._ms = num_bytes, latency_ms
        schemes = [base, *dict.fromkeys(found.scheme for found in sensitivities)]
        self._loss = {(found.graph, found.scheme): found.loss for found in sensitivities}
        self._loss.update({(graph, base): 0.0 for graph in graphs})
        self._start: dict[str, str] = {}
        moves: list[_Move] = []
        costs = latency_ms if by_latency and latency_ms is not None else num_bytes
        for graph in graphs:
            hull = self._hull(graph, schemes, costs)
            self._start[graph] = hull[0]
            for before, after in pairwise(hull):
                cost = costs[graph, after] - costs[graph, before]
                gain = self._loss[graph, before] - self._loss[graph, after]
                moves.append(_Move(graph=graph, scheme=after, cost=cost, gain=gain))
        # Along a hull the gain per cost falls, so sorting keeps each graph's moves in order.
        self._moves = sorted(moves, key=lambda move: -move.gain / move.cost)

    def _hull(self, graph: str, schemes: Sequence[str], costs: Costs) -> list[str]:
        """The graph's schemes by rising cost that lie on the lower convex line of loss over cost."""
        hull: list[str] = []
        for scheme in sorted(schemes, key=lambda name: (costs[graph, name], self._loss[graph, name])):
            at, loss = costs[graph, scheme], self._loss[graph, scheme]
            if hull and loss >= self._loss[graph, hull[-1]]:
                continue
            while len(hull) > 1 and self._slope(graph, hull[-2], hull[-1], costs) <= (
                self._loss[graph, hull[-1]] - loss
            ) / (at - costs[graph, hull[-1]]):
                hull.pop()
            hull.append(scheme)
        return hull

    def _slope(self, graph: str, before: str, after: str, costs: Costs) -> float:
        gain = self._loss[graph, before] - self._loss[graph, after]
        return gain / (costs[graph, after] - costs[graph, before])

    def __len__(self) -> int:
        """The number of moves from the cheapest mixture to the most expensive."""
        return len(self._moves)

    def choice(self, num_moves: int) -> dict[str, str]:
        """The mixture after the first moves."""
        return self._start | {move.graph: move.scheme for move in self._moves[:num_moves]}

    def point(self, choice: Choice, loss: float | None = None) -> Point:
        """What a mixture costs."""
        return Point(
            num_bytes=round(sum(self._bytes[item] for item in choice.items())),
            latency_ms=None if self._ms is None else sum(self._ms[item] for item in choice.items()),
            predicted_loss=sum(self._loss[item] for item in choice.items()),
            loss=loss,
        )

    def most_faithful(self, limits: MixtureLimits) -> dict[str, str]:
        """The mixture with the least predicted loss within the limits of bytes and latency."""
        choice = dict(self._start)
        if not limits.fit(self.point(choice)):
            raise CalibrationError(
                f"the smallest mixture takes {self.point(choice)}: raise the limit, or take a --precision of fewer bits"
            )
        closed: set[str] = set()
        for move in self._moves:
            wider = choice | {move.graph: move.scheme}
            if move.graph not in closed and limits.fit(self.point(wider)):
                choice = wider
            else:
                closed.add(move.graph)
        return choice

    def smallest(self, limits: MixtureLimits, measure: Callable[[Choice], float]) -> dict[str, str]:
        """The first mixture on the line whose measured loss is within the limit."""
        assert limits.max_loss is not None
        low, high = 0, len(self._moves)  # after all moves the mixture is lossless
        while low < high:
            middle = (low + high) // 2
            if measure(self.choice(middle)) <= limits.max_loss:
                high = middle
            else:
                low = middle + 1
        choice = self.choice(low)
        if not limits.fit(self.point(choice)):
            raise CalibrationError(f"a loss of {limits.max_loss:g} takes {self.point(choice)}: raise one of the limits")
        return choice

    def curve(self, measure: Callable[[Choice], float]) -> list[Point]:
        """Measured points of the line, including both ends."""
        last = len(self._moves)
        places = sorted({round(last * part / (_CURVE_POINTS - 1)) for part in range(_CURVE_POINTS)})
        return [self.point(choice, measure(choice)) for choice in map(self.choice, places)]
