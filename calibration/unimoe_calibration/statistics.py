"""Statistics of the inputs of a model's products, gathered row by row in constant memory.

M rows kept · N rows · C channels of an input · E dynamic experts · L layers · D domains
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.bundle.reader import language_model_graphs, weight_shapes
from unimoe_runtime.config import ModelConfig

Floats = NDArray[np.float32]
Counts = NDArray[np.int64]

NUM_BINS = 2048
RESERVOIR_ROWS = 128
NEAREST = "nearest"
"""Domain of the rows that the router nearly, but not quite, sent to an expert."""


class Linear(NamedTuple):
    """One product with a constant matrix: its graph and its weight, as the bundle names them.

    The input of an expert's `down.weight` is SwiGLU's output, before the routing weight.
    """

    graph: str
    weight: str

    def __str__(self) -> str:
        return f"{self.graph}/{self.weight}"


def linears(model: ModelConfig) -> Iterator[Linear]:
    """Every product that can be quantized, in the order of a step: all matrices but the router's."""
    for graph in language_model_graphs(model):
        for weight, shape in (weight_shapes(graph, model) or {}).items():
            if len(shape) == 2 and weight != "router.weight":
                yield Linear(graph, weight)


@dataclass(eq=False)
class Histogram:
    """Counts of absolute values in `NUM_BINS` equal bins over 0 … `limit`.

    The limit is a power of two and doubles when a larger value comes (neighbouring bins merge), so that two
    histograms can always be added exactly.
    """

    limit: float = 2.0**-24
    counts: Counts = field(default_factory=lambda: np.zeros(NUM_BINS, dtype=np.int64))

    def add(self, absolute: Floats) -> None:
        """Count absolute values of any shape."""
        self.cover(float(absolute.max(initial=0.0)))
        index = (absolute.ravel() * np.float32(NUM_BINS / self.limit)).astype(np.int64)
        self.counts += np.bincount(np.minimum(index, NUM_BINS - 1), minlength=NUM_BINS)

    def merge(self, other: Histogram) -> None:
        """Add another histogram's counts."""
        moved = Histogram(limit=other.limit, counts=other.counts.copy())
        limit = max(self.limit, other.limit)
        for histogram in (self, moved):
            histogram.cover(limit)
        self.counts += moved.counts

    @property
    def centres(self) -> NDArray[np.float64]:
        """The middle of each bin."""
        return (np.arange(NUM_BINS, dtype=np.float64) + 0.5) * np.float64(self.limit / NUM_BINS)

    def cover(self, largest: float) -> None:
        """Double the range until it holds `largest`."""
        while largest > self.limit:
            halved = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([halved, np.zeros(NUM_BINS - len(halved), dtype=np.int64)])
            self.limit *= 2


@dataclass(eq=False)
class DomainStatistics:
    """An input's values over one domain's rows: smallest, largest, histogram of the absolute values, and the
    largest absolute value of each channel."""

    channel_max_C: Floats
    num_rows: int = 0
    smallest: float = 0.0
    largest: float = 0.0
    histogram: Histogram = field(default_factory=Histogram)

    def add(self, rows_NC: Floats) -> None:
        if not len(rows_NC):
            return
        absolute = np.abs(rows_NC)
        self.num_rows += len(rows_NC)
        self.smallest = min(self.smallest, float(rows_NC.min()))
        self.largest = max(self.largest, float(rows_NC.max()))
        np.maximum(self.channel_max_C, absolute.max(axis=0), out=self.channel_max_C)
        self.histogram.add(absolute)

    def merge(self, other: DomainStatistics) -> None:
        self.num_rows += other.num_rows
        self.smallest, self.largest = min(self.smallest, other.smallest), max(self.largest, other.largest)
        np.maximum(self.channel_max_C, other.channel_max_C, out=self.channel_max_C)
        self.histogram.merge(other.histogram)

    @property
    def absolute_max(self) -> float:
        return max(-self.smallest, self.largest)


class LinearStatistics:
    """The input of one `Linear`: figures per domain, and a seeded sample of its rows over all domains.

    `rows_MC` float32, at most `RESERVOIR_ROWS`: every row had the same chance to stay. The order in which linears are
    observed changes none of their samples.
    """

    def __init__(self, linear: Linear, num_channels: int, *, seed: int = 0) -> None:
        self.linear, self.num_channels = linear, num_channels
        self.domains: dict[str, DomainStatistics] = {}
        self.rows_MC = np.zeros((0, num_channels), dtype=np.float32)
        self.keys_M = np.zeros(0)
        self._seed = (seed, zlib.crc32(str(linear).encode()))

    def add(self, domain: str, rows_NC: Floats) -> None:
        """Take rows of one domain."""
        # The rows with the largest random keys are a uniform sample of all rows so far. Each call seeds the generator
        # anew, from the number of rows so far, so that a resumed run draws the same as an uninterrupted one.
        rng = np.random.default_rng([*self._seed, self.num_rows])
        self.domain(domain).add(rows_NC)
        keys = np.concatenate([self.keys_M, rng.random(len(rows_NC))])
        kept = np.sort(np.argsort(-keys, kind="stable")[:RESERVOIR_ROWS])
        here = len(self.keys_M)
        self.rows_MC = np.concatenate([self.rows_MC[kept[kept < here]], rows_NC[kept[kept >= here] - here]])
        self.keys_M = keys[kept]

    def restore_rows(self, rows_MC: Floats, keys_M: NDArray[np.float64]) -> None:
        """Take the sample of an earlier run."""
        self.rows_MC, self.keys_M = rows_MC, keys_M

    def domain(self, name: str) -> DomainStatistics:
        """The figures of one domain; empty ones before its first row."""
        if name not in self.domains:
            self.domains[name] = DomainStatistics(channel_max_C=np.zeros(self.num_channels, dtype=np.float32))
        return self.domains[name]

    def total(self) -> DomainStatistics:
        """All domains together."""
        total = DomainStatistics(channel_max_C=np.zeros(self.num_channels, dtype=np.float32))
        for name in sorted(self.domains):
            total.merge(self.domains[name])
        return total

    @property
    def num_rows(self) -> int:
        return sum(domain.num_rows for domain in self.domains.values())


@dataclass(eq=False)
class Statistics:
    """The statistics of a run over the calibration data.

    `tokens` per domain: picks_LE, the (token, expert) decisions for each dynamic expert (routed, then null) of each
    layer. `num_tokens` per domain: the tokens (model rows × positions, padding left out) that every trunk saw.
    """

    linears: Mapping[Linear, LinearStatistics]
    tokens: dict[str, Counts] = field(default_factory=dict)
    num_tokens: dict[str, int] = field(default_factory=dict)

    @classmethod
    def empty(cls, model: ModelConfig, *, seed: int = 0) -> Self:
        """Statistics of no rows."""
        widths = {linear: (weight_shapes(linear.graph, model) or {})[linear.weight][0] for linear in linears(model)}
        return cls(linears={linear: LinearStatistics(linear, width, seed=seed) for linear, width in widths.items()})
