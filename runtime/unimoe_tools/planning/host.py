"""This CPU's costs, from a short benchmark on one layer of the planned model's sizes with random weights.

A model's graphs run one after another, and between two runs of the same graph all other data of a step pass through
the caches. So copies of the probe run in a ring that touches as many bytes as a step; a short ring represents a model
that fits into a cache. A call's median counts. Its time includes reading its weights: there is no separate bandwidth.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from math import inf

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.protocol import Backend, CachedPositions
from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.model.generation import Prompt, Step, generate
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_runtime.synthesis.lru_cache import LRUCache
from unimoe_tools.planning.roofline import Costs
from unimoe_tools.planning.weights import stored_bytes
from unimoe_tools.profiling.breakdown import STEP_PARTS
from unimoe_tools.profiling.machine import settle
from unimoe_tools.profiling.recorder import Marks, Part, RecordedModel, Recorder

Floats = NDArray[np.float64]

# The most bytes that a ring touches: several times one tenant's share of a last-level cache.
_RING_BYTES = 160e6
# Steps of every copy in a run of the ring, of which the first does not count; least time of a run; number of runs.
_LEAST_STEPS = 4
_LEAST_S = 0.2
_RUNS = 3
_COPY_STEPS = 64  # steps of a copy before it starts again
_ROWS = 2
_READ_POSITIONS = 8
_GEMM_SIZE, _GEMM_RUNS = 768, 5
_DRIVE_BYTES_PER_S = 1.5e9  # assumed, for reading experts that are not in memory


class _AnyPrompt(LRUCache[CachedPositions]):
    """The keys and values of a short prompt over and over, for any prompt: no step's time depends on their values, and
    reading a prompt takes as long as many steps."""

    def __init__(self, backend: Backend, num_positions: int) -> None:
        super().__init__(0)
        model = BundleModel(backend)
        model.prefill(Prompt.from_rows([list(range(_READ_POSITIONS))]))
        with closing(model.hand_over()) as forward:
            read = forward.snapshot(_READ_POSITIONS)
        places_P = np.arange(num_positions) % _READ_POSITIONS
        layers = ((key_HPD[:, places_P], value_HPD[:, places_P]) for key_HPD, value_HPD in read.layers)
        self._cached = CachedPositions(layers=tuple(layers))

    def get(self, key: bytes) -> CachedPositions:
        return self._cached


class _Copy:
    """One copy of a probe in a ring. It generates without end after a prompt of `positions` tokens."""

    def __init__(self, bundle: Bundle, threads: int | None, positions: int, recorder: Recorder) -> None:
        self.backend: Backend = open_backend("onnxruntime", bundle, threads=threads)
        self.backend.load()
        prefixes = _AnyPrompt(self.backend, positions - 1)
        self._config, self._model = bundle.model, RecordedModel(self.backend, recorder, prefixes=prefixes)
        ids_T = np.random.default_rng(0).integers(bundle.model.text_vocab_size, size=positions)
        self._prompt = Prompt.from_rows([ids_T] * _ROWS, paired=True, num_shared=positions - 1)
        self._steps: Iterator[Step] = iter(())

    def step(self) -> None:
        if next(self._steps, None) is None:
            sampling = SamplingConfig(min_steps=_COPY_STEPS, max_steps=_COPY_STEPS)
            self._steps = generate(self._model, self._prompt, self._config, sampling)
            next(self._steps)


class HostMeter:
    """A ring of a probe (unimoe_export.probes) that touches `step_bytes`, up to the useful limit.

    `positions`: the average number in the cache. `run` measures for a fifth of a second or more; further calls add
    measurements spread over time, and `costs` is the result of all. ONNX Runtime's pool is set to `threads`, which is
    possible only once per process.
    """

    def __init__(self, probe: Bundle, *, step_bytes: float, positions: int, threads: int | None = None) -> None:
        sizes = stored_bytes(probe)
        probe_bytes = sizes.always + float(sizes.experts_LR.sum())
        num_copies = max(1, round(min(step_bytes, _RING_BYTES) / probe_bytes))
        self._recorder = Recorder()
        before = max(1, positions - _COPY_STEPS // 2)
        self._copies = [_Copy(probe, threads, before, self._recorder) for _ in range(num_copies)]
        self._calls: dict[Part, list[Floats]] = {part: [] for part in STEP_PARTS}

    def run(self) -> None:
        """Run steps of every copy in turn."""
        settle()
        first, rounds, start = len(self._recorder.marks().part_M), 0, time.perf_counter()
        while rounds < _LEAST_STEPS or time.perf_counter() - start < _LEAST_S:
            for copy in self._copies:
                copy.step()
            rounds += 1
        for part, seconds in _seconds(self._recorder.marks(), first, len(self._copies)).items():
            self._calls[part].append(seconds)

    def costs(self) -> Costs:
        middle = {part: _median(seconds) for part, seconds in self._calls.items()}
        return Costs(
            bytes_per_s=inf,
            trunk_s=middle[Part.TRUNK] + middle[Part.READ_BACK] + middle[Part.DISPATCH],
            expert_s=middle[Part.EXPERT] + middle[Part.DISPATCH],
            head_s=middle[Part.HEAD],
            host_s=middle[Part.INPUTS] + middle[Part.SAMPLING],
            miss_bytes_per_s=_DRIVE_BYTES_PER_S,
            flops_per_s=_flops_per_s(),
        )

    def close(self) -> None:
        for copy in self._copies:
            copy.backend.close()


def measure_host(probe: Bundle, *, step_bytes: float, positions: int, threads: int | None = None) -> Costs:
    """Costs of this CPU for models whose layers have the probe's sizes; takes some seconds."""
    meter = HostMeter(probe, step_bytes=step_bytes, positions=positions, threads=threads)
    try:
        for _ in range(_RUNS):
            meter.run()
        return meter.costs()
    finally:
        meter.close()


def _seconds(marks: Marks, first: int, num_copies: int) -> dict[Part, Floats]:
    """Seconds of each call in the decode steps from the mark `first` on, without the first round."""
    part_M, start_M = marks.part_M[first:], marks.start_ns_M[first:]
    seconds_M = np.append(np.diff(start_M), 0) / 1e9
    begins_M = part_M == Part.INPUTS
    step_M = np.cumsum(begins_M) - 1
    # A prompt's pass ends where the next step begins.
    pass_M = np.maximum.accumulate(np.where(begins_M | (part_M == Part.PREFILL), np.arange(len(part_M)), 0))
    counted_M = (step_M >= num_copies) & begins_M[pass_M]
    counted_M[-1] = False  # its end is unknown
    return {part: seconds_M[counted_M & (part_M == part)] for part in STEP_PARTS}


def _median(seconds: list[Floats]) -> float:
    """The median over all calls; 0 without calls."""
    together = np.concatenate([np.zeros(0), *seconds])
    return float(np.median(together)) if len(together) else 0.0


@cache
def _flops_per_s() -> float:
    """Operations per second of a float32 matrix product that fits into the caches, with numpy's threads."""
    matrix = np.ones((_GEMM_SIZE, _GEMM_SIZE), np.float32)
    matrix @ matrix
    seconds = []
    for _ in range(_GEMM_RUNS):
        start = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - start)
    return float(2 * _GEMM_SIZE**3 / min(seconds))
