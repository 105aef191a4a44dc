"""What this CPU costs, measured by a short benchmark on two probe models of one layer, a small and a larger one.

A model's graphs run one after the other, and between two runs of one of them everything else of a step passes
through the caches. So copies of both probes take turns in a ring that touches as many bytes as a step: a short ring
stands for a model that fits a cache. Of a graph's times the lower quartile counts, so that company on the machine
disturbs little. Two sizes give the line

    time of a graph = constant of its kind + bytes / bandwidth

The constant is smaller where graphs are: what a call reads pushes the engine's own code and data out of the nearest
cache. A ring of small probes alone tells that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..backends import Backend, open_backend
from ..bundle import Bundle, open_bundle
from ..config import ModelConfig, SamplingConfig
from ..generation import Prompt, Step, generate
from ..profiling.breakdown import STEP_PARTS
from ..profiling.machine import settle
from ..profiling.recorder import Marks, Part, RecordedModel, Recorder
from .roofline import Costs
from .weights import ModelBytes, stored_bytes

Floats = NDArray[np.float64]

# Bytes that a ring touches, at most: several times a last-level cache's share of one tenant.
_RING_BYTES = 160e6
_NUM_RINGS = 4
# Steps of every copy in a run of a ring, of which the first is not counted; least time of a run, and runs of each.
_LEAST_STEPS = 4
_LEAST_S = 0.2
_RUNS = 3
_COPY_STEPS = 200  # steps of a copy before it begins anew
_QUARTILE = 25
# The ring of small probes alone is kinder than any model of small graphs, which has other work between them, and
# quantized graphs more operators: half of what it gains is taken (benchmarks/plan_backtest.py).
_SMALL_SHARE = 0.5
_CALLS = 4  # graphs of a probe's step: trunk, two experts, head
_PROMPT_TOKENS = 8
_ROWS = 2
_GEMM_SIZE, _GEMM_RUNS = 768, 5
_DRIVE_BYTES_PER_S = 1.5e9  # assumed: where experts are read that are not in memory


_CONSTANTS = ("trunk_s", "expert_s", "head_s", "host_s", "logit_s")


@dataclass(frozen=True, kw_only=True)
class HostCosts:
    """Costs at some ring sizes, in bytes, at `call_bytes` a graph; and those of the ring of small graphs alone, at
    `small_call_bytes` a graph. Between them the logarithms interpolate."""

    ring_bytes: tuple[float, ...]
    costs: tuple[Costs, ...]
    call_bytes: float
    small: Costs
    small_call_bytes: float

    def at(self, step_bytes: float, call_bytes: float) -> Costs:
        """Costs of a step that touches so many bytes, and so many a graph on average."""
        known, place = np.log(self.ring_bytes), np.log(max(step_bytes, 1.0))
        found = {
            field.name: float(np.interp(place, known, [getattr(costs, field.name) for costs in self.costs]))
            for field in fields(Costs)
        }
        ends = np.log([self.small_call_bytes, self.call_bytes])
        large_share = float(np.interp(np.log(max(call_bytes, 1.0)), ends, [_SMALL_SHARE, 1.0]))
        for name in _CONSTANTS:
            small = min(getattr(self.small, name), found[name])
            found[name] = small + large_share * (found[name] - small)
        return Costs(**found)


_Calls = dict[Part, list[Floats]]
_Times = dict[Part, float]


class _Copy:
    """One copy of a probe in a ring, generating without end."""

    def __init__(self, bundle: Bundle, threads: int | None, recorder: Recorder) -> None:
        self.backend: Backend = open_backend("onnxruntime", bundle, threads=threads)
        self.backend.load()
        self._config, self._model = bundle.model, RecordedModel(self.backend, recorder)
        random = np.random.default_rng(0)
        ids_BT = random.integers(bundle.model.text_vocab_size, size=(_ROWS, _PROMPT_TOKENS))
        self._prompt = Prompt.from_rows(list(ids_BT), paired=True)
        self._steps: Iterator[Step] = iter(())

    def step(self) -> None:
        if next(self._steps, None) is None:
            sampling = SamplingConfig(min_steps=_COPY_STEPS, max_steps=_COPY_STEPS)
            self._steps = generate(self._model, self._prompt, self._config, sampling)
            next(self._steps)


class HostMeter:
    """Rings of the bundles of two probes, one layer each, whose routers always pick every expert.

    `run` measures for a second or two, and may be called again to measure more, spread over time; `costs` is the
    result of all of it. ONNX Runtime's pool is set to `threads`, as it can be once a process.
    """

    def __init__(self, small: Path, large: Path, *, threads: int | None = None) -> None:
        bundles = (open_bundle(small), open_bundle(large))
        self._sizes = (stored_bytes(bundles[0]), stored_bytes(bundles[1]))
        self._logits = (_num_logits(bundles[0].model), _num_logits(bundles[1].model))
        self._probe_bytes = [size.always + float(size.experts_LR.sum()) for size in self._sizes]
        num_pairs = max(1, round(_RING_BYTES / sum(self._probe_bytes)))
        self._recorder = Recorder()
        self._pairs = [tuple(_Copy(bundle, threads, self._recorder) for bundle in bundles) for _ in range(num_pairs)]
        self._lengths = sorted({max(1, round(num_pairs ** (index / (_NUM_RINGS - 1)))) for index in range(_NUM_RINGS)})
        self._rings: list[list[_Calls]] = [[{}, {}] for _ in self._lengths]
        self._smalls: list[_Calls] = [{}]

    def run(self) -> None:
        for length, calls in zip(self._lengths, self._rings, strict=True):
            self._run_ring([copy for pair in self._pairs[:length] for copy in pair], calls)
        self._run_ring([small for small, _ in self._pairs], self._smalls)

    def costs(self) -> HostCosts:
        flops = _flops_per_s()
        costs = tuple(
            _fit([_quartiles(calls) for calls in ring], self._sizes, self._logits, flops) for ring in self._rings
        )
        return HostCosts(
            ring_bytes=tuple(length * sum(self._probe_bytes) for length in self._lengths),
            costs=costs,
            call_bytes=sum(self._probe_bytes) / (2 * _CALLS),
            small=_constants([_quartiles(self._smalls[0])], self._sizes[:1], self._logits[0], costs[0]),
            small_call_bytes=self._probe_bytes[0] / _CALLS,
        )

    def close(self) -> None:
        for pair in self._pairs:
            for copy in pair:
                copy.backend.close()

    def _run_ring(self, copies: Sequence[_Copy], calls: list[_Calls]) -> None:
        """Steps of every copy in turn; seconds of each call are added to `calls`, of each kind of probe in the ring."""
        settle()
        first, rounds, start = len(self._recorder.marks().part_M), 0, time.perf_counter()
        while rounds < _LEAST_STEPS or time.perf_counter() - start < _LEAST_S:
            for copy in copies:
                copy.step()
            rounds += 1
        _add_calls(self._recorder.marks(), first, len(copies), calls)


def measure_host(small: Path, large: Path, *, threads: int | None = None) -> HostCosts:
    """Costs of this CPU, on two probes; takes some seconds."""
    meter = HostMeter(small, large, threads=threads)
    try:
        for _ in range(_RUNS):
            meter.run()
        return meter.costs()
    finally:
        meter.close()


def _num_logits(model: ModelConfig) -> int:
    return _ROWS * model.num_codebooks * model.codec_vocab_size


def _add_calls(marks: Marks, first: int, num_copies: int, calls: list[_Calls]) -> None:
    """Seconds of each call, for each kind of probe in the ring, without the first round."""
    part_M, start_M = marks.part_M[first:], marks.start_ns_M[first:]
    seconds_M = np.append(np.diff(start_M), 0) / 1e9
    begins_M = part_M == Part.INPUTS
    step_M = np.cumsum(begins_M) - 1
    # A pass over a prompt ends where the next step begins.
    pass_M = np.maximum.accumulate(np.where(begins_M | (part_M == Part.PREFILL), np.arange(len(part_M)), 0))
    counted_M = (step_M >= num_copies) & begins_M[pass_M]
    counted_M[-1] = False  # its end is not known
    for kind, of_kind in enumerate(calls):
        for part in STEP_PARTS:
            chosen_M = counted_M & (step_M % len(calls) == kind) & (part_M == part)
            of_kind.setdefault(part, []).append(seconds_M[chosen_M])


def _quartiles(calls: _Calls) -> _Times:
    return {part: float(np.percentile(np.concatenate(seconds), _QUARTILE)) for part, seconds in calls.items()}


def _graph_bytes(size: ModelBytes) -> dict[Part, float]:
    """Bytes of a probe's graph of each kind."""
    return {Part.TRUNK: float(size.trunks_L[0]), Part.EXPERT: float(size.experts_LR.mean()), Part.HEAD: size.head}


def _fit(times: Sequence[_Times], sizes: Sequence[ModelBytes], logits: Sequence[int], flops_per_s: float) -> Costs:
    """The line through two sizes, for each kind of graph, with one bandwidth."""
    small, large = times
    more = [
        (large[part] - small[part], num_bytes - _graph_bytes(sizes[0])[part])
        for part, num_bytes in _graph_bytes(sizes[1]).items()
    ]
    line = Costs(
        bytes_per_s=sum(num_bytes for _, num_bytes in more) / max(sum(seconds for seconds, _ in more), 1e-9),
        trunk_s=0.0,
        expert_s=0.0,
        head_s=0.0,
        host_s=0.0,
        logit_s=max(0.0, (large[Part.SAMPLING] - small[Part.SAMPLING]) / (logits[1] - logits[0])),
        miss_bytes_per_s=_DRIVE_BYTES_PER_S,
        flops_per_s=flops_per_s,
    )
    return _constants(times, sizes, logits[0], line)


def _constants(times: Sequence[_Times], sizes: Sequence[ModelBytes], logits: int, line: Costs) -> Costs:
    """`line` with the constants that these probes, the small one first, leave beside its slopes; their mean."""

    def beyond_bytes(part: Part) -> float:
        left = [
            seconds[part] - _graph_bytes(size)[part] / line.bytes_per_s
            for seconds, size in zip(times, sizes, strict=True)
        ]
        return max(0.0, sum(left) / len(left))

    def host(part: Part) -> float:
        return sum(seconds[part] for seconds in times) / len(times)

    return replace(
        line,
        trunk_s=beyond_bytes(Part.TRUNK) + host(Part.READ_BACK) + host(Part.DISPATCH),
        expert_s=beyond_bytes(Part.EXPERT) + host(Part.DISPATCH),
        head_s=beyond_bytes(Part.HEAD),
        host_s=host(Part.INPUTS) + max(0.0, times[0][Part.SAMPLING] - logits * line.logit_s),
    )


def _flops_per_s() -> float:
    """Of a float32 matrix product that fits the caches, with numpy's threads."""
    matrix = np.ones((_GEMM_SIZE, _GEMM_SIZE), np.float32)
    matrix @ matrix
    seconds = []
    for _ in range(_GEMM_RUNS):
        start = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - start)
    return float(2 * _GEMM_SIZE**3 / min(seconds))
