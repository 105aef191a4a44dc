"""What this CPU costs, measured by a short benchmark on two probe models of one layer, a small and a larger one.

A model's graphs run one after the other, and between two runs of one of them everything else of a step passes
through the caches. So copies of both probes take turns in a ring that touches as many bytes as a step: a short ring
stands for a model that fits a cache. Of a graph's times the lower quartile counts, so that company on the machine
disturbs little. Two sizes give the line

    time of a graph = constant of its kind + bytes / bandwidth
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ..backends import Backend, open_backend
from ..bundle import Bundle, open_bundle
from ..config import ModelConfig, SamplingConfig
from ..generation import Prompt, generate
from ..profiling.machine import settle
from ..profiling.recorder import Marks, Part, RecordedModel, Recorder
from .roofline import Costs
from .weights import ModelBytes, stored_bytes

# Bytes that a ring touches, at most: several times a last-level cache's share of one tenant.
_RING_BYTES = 160e6
_NUM_RINGS = 4
# Steps of every copy in a ring, of which the first is not counted, and least time of a ring.
_LEAST_STEPS = 6
_LEAST_S = 0.6
_MOST_STEPS = 200
_QUARTILE = 25
_PROMPT_TOKENS = 8
_ROWS = 2
_MARKS = 500_000
_GEMM_SIZE, _GEMM_RUNS = 768, 5
_DRIVE_BYTES_PER_S = 1.5e9  # assumed: where experts are read that are not in memory


@dataclass(frozen=True, kw_only=True)
class HostCosts:
    """Costs at some ring sizes, in bytes; between them the logarithm of the size interpolates."""

    ring_bytes: tuple[float, ...]
    costs: tuple[Costs, ...]

    def at(self, step_bytes: float) -> Costs:
        """Costs of a step that touches so many bytes."""
        place = np.log(max(step_bytes, 1.0))
        known = np.log(self.ring_bytes)

        def between(name: str) -> float:
            return float(np.interp(place, known, [getattr(costs, name) for costs in self.costs]))

        return Costs(**{field.name: between(field.name) for field in fields(Costs)})


class _Copy:
    """One copy of a probe in a ring, generating without end."""

    def __init__(self, bundle: Bundle, threads: int | None, recorder: Recorder) -> None:
        self.backend: Backend = open_backend("onnxruntime", bundle, threads=threads)
        self.backend.load()
        self._model = RecordedModel(self.backend, recorder)
        random = np.random.default_rng(0)
        ids_BT = random.integers(bundle.model.text_vocab_size, size=(_ROWS, _PROMPT_TOKENS))
        prompt = Prompt.from_rows(list(ids_BT), paired=True)
        steps = SamplingConfig(min_steps=_MOST_STEPS * _NUM_RINGS, max_steps=_MOST_STEPS * _NUM_RINGS + 1)
        self._steps = generate(self._model, prompt, bundle.model, steps)
        next(self._steps)

    def step(self) -> None:
        next(self._steps)


def measure_host(small: Path, large: Path, *, threads: int | None = None) -> HostCosts:
    """Costs of this CPU, on the bundles of two probes of one layer whose routers always pick every expert.

    Takes some seconds. ONNX Runtime's pool is set to `threads`, as it can be once a process.
    """
    bundles = (open_bundle(small), open_bundle(large))
    sizes = (stored_bytes(bundles[0]), stored_bytes(bundles[1]))
    logits = (_num_logits(bundles[0].model), _num_logits(bundles[1].model))
    pair_bytes = sum(size.always + float(size.experts_LR.sum()) for size in sizes)
    num_pairs = max(1, round(_RING_BYTES / pair_bytes))
    recorder = Recorder(_MARKS)
    pairs = [tuple(_Copy(bundle, threads, recorder) for bundle in bundles) for _ in range(num_pairs)]
    flops = _flops_per_s()
    lengths = sorted({max(1, round(num_pairs ** (index / (_NUM_RINGS - 1)))) for index in range(_NUM_RINGS)})
    costs = []
    for length in lengths:
        settle()
        first = len(recorder.marks().part_M)
        _run_ring(pairs[:length])
        costs.append(_fit(_times(recorder.marks(), first, length), sizes, logits, flops))
    for pair in pairs:
        for copy in pair:
            copy.backend.close()
    return HostCosts(ring_bytes=tuple(length * pair_bytes for length in lengths), costs=tuple(costs))


def _num_logits(model: ModelConfig) -> int:
    return _ROWS * model.num_codebooks * model.codec_vocab_size


def _run_ring(pairs: Sequence[tuple[_Copy, ...]]) -> None:
    """Steps of every copy in turn."""
    rounds, start = 0, time.perf_counter()
    while rounds < _LEAST_STEPS or (time.perf_counter() - start < _LEAST_S and rounds < _MOST_STEPS):
        for pair in pairs:
            for copy in pair:
                copy.step()
        rounds += 1


_Times = dict[Part, float]


def _times(marks: Marks, first: int, length: int) -> tuple[_Times, _Times]:
    """Lower quartile of each part's seconds a call, of the small and of the large probe; without the first round."""
    part_M, start_M = marks.part_M[first:], marks.start_ns_M[first:]
    step_M = np.cumsum(part_M == Part.INPUTS) - 1
    seconds_M = np.append(np.diff(start_M), 0) / 1e9
    counted_M = step_M >= 2 * length
    counted_M[-1] = False  # its end is not known
    result: tuple[_Times, _Times] = ({}, {})
    for probe, times in enumerate(result):
        for part in (Part.INPUTS, Part.TRUNK, Part.READ_BACK, Part.DISPATCH, Part.EXPERT, Part.HEAD, Part.SAMPLING):
            calls = seconds_M[counted_M & (step_M % 2 == probe) & (part_M == part)]
            times[part] = float(np.percentile(calls, _QUARTILE))
    return result


def _fit(
    times: tuple[_Times, _Times], sizes: tuple[ModelBytes, ModelBytes], logits: tuple[int, int], flops_per_s: float
) -> Costs:
    """The line through two sizes, for each kind of graph, with one bandwidth."""
    small, large = times
    bytes_of = [
        {Part.TRUNK: float(size.trunks_L[0]), Part.EXPERT: float(size.experts_LR.mean()), Part.HEAD: size.head}
        for size in sizes
    ]
    more_bytes = sum(bytes_of[1].values()) - sum(bytes_of[0].values())
    more_s = sum(large[part] - small[part] for part in bytes_of[0])
    bytes_per_s = more_bytes / max(more_s, 1e-9)

    def beyond_bytes(part: Part) -> float:
        left = [of[part] - counted[part] / bytes_per_s for of, counted in zip(times, bytes_of, strict=True)]
        return max(0.0, sum(left) / 2)

    def host(part: Part) -> float:
        return (small[part] + large[part]) / 2

    logit_s = max(0.0, (large[Part.SAMPLING] - small[Part.SAMPLING]) / (logits[1] - logits[0]))
    return Costs(
        bytes_per_s=bytes_per_s,
        trunk_s=beyond_bytes(Part.TRUNK) + host(Part.READ_BACK) + host(Part.DISPATCH),
        expert_s=beyond_bytes(Part.EXPERT) + host(Part.DISPATCH),
        head_s=beyond_bytes(Part.HEAD),
        host_s=host(Part.INPUTS) + small[Part.SAMPLING] - logits[0] * logit_s,
        logit_s=logit_s,
        miss_bytes_per_s=_DRIVE_BYTES_PER_S,
        flops_per_s=flops_per_s,
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
