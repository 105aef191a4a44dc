"""Comparing one bundle with another: a quantized bundle with its original.

Both answer the same requests with the same seeds. Then both read the reference's codes. Quantized answers are never
equal bit by bit, so this measures their distance, and the gain of smaller weights in bytes and time.

R rows · K codebooks · T frames · N bundles · S blocks of steps
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.audio.log_mel import spectral_distance_db
from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.bundle.reader import Bundle, language_model_graphs
from unimoe_runtime.codec.bundle_codec import BundleCodec
from unimoe_runtime.errors import BundleError
from unimoe_runtime.model.generation import collect_frames, generate
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.parity.bootstrap import RESAMPLES, percentile_interval
from unimoe_tools.parity.ratios import Ratio, paired_ratio
from unimoe_tools.parity.sample_requests import SampleRequest, limit_steps
from unimoe_tools.parity.teacher_forced import Divergence, TeacherForcedOutput, diverge, read_forced, teacher_force

_OTHER_SEED = 1000
_MEANS_CONFIDENCE = 0.95
_TIMED_BLOCKS, _BLOCK_STEPS = 16, 16
_TIMED_REQUESTS = 2


@dataclass(frozen=True, kw_only=True)
class BundleComparison:
    """A candidate beside its reference.

    `forced`: both read the reference's codes. `first_differences`: the first step of each request's own run, at the
    same seed, with a different code; None where all are equal. `spectral_db`: the distance between their audio, and
    `other_seed_db` the distance between the reference's audio at two seeds; None without a codec. `graph_bytes`: of the
    language model's graphs. `step`: milliseconds of a decode step, measured alternately, and their ratio.
    `intervals`: of figures by name, at 95 % for means over the requests, at the confidence of `step` for the speedup.
    """

    forced: Divergence
    first_differences: tuple[int | None, ...]
    spectral_db: float | None
    other_seed_db: float | None
    graph_bytes: int
    reference_graph_bytes: int
    step: Ratio
    intervals: Mapping[str, tuple[float, float]]

    @property
    def equal_runs(self) -> float:
        return self.first_differences.count(None) / len(self.first_differences)

    @property
    def size(self) -> float:
        """Bytes of the language model's graphs as a share of the reference's."""
        return self.graph_bytes / self.reference_graph_bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class _Run:
    rows_RK: NDArray[np.int64]
    codes_TK: NDArray[np.int64]


def compare_bundles(
    candidate: Backend,
    reference: Backend,
    requests: Sequence[SampleRequest],
    *,
    steps: int,
    progress: Callable[[str, int, int], object] = lambda what, done, total: None,
) -> BundleComparison:
    """Answer the requests with both, at most `steps` decode steps each. `progress`: activity, requests done, all.

    Raises BundleError where the two are different models.
    """
    ours, theirs = candidate.bundle, reference.bundle
    if ours.model != theirs.model:
        raise BundleError(f"{ours.path} and {theirs.path} are not the same model: their configurations differ")
    differences: list[int | None] = []
    passes: tuple[list[TeacherForcedOutput], list[TeacherForcedOutput]] = ([], [])
    distances: tuple[list[float], list[float]] = ([], [])
    runs: list[_Run] = []
    for seed, request in enumerate(requests):
        expected = _answer(reference, request, steps, seed)
        found = _answer(candidate, request, steps, seed)
        runs.append(expected)
        differences.append(_first_difference(expected.rows_RK, found.rows_RK))
        item = teacher_force(request.prompt, expected.codes_TK, request.sampling, theirs.model)
        for backend, of_backend in zip((reference, candidate), passes, strict=True):
            of_backend.append(read_forced(backend, item))
        if theirs.codec is not None:
            other = _answer(reference, request, steps, seed + _OTHER_SEED)
            codec = BundleCodec(theirs.codec, reference.run)
            audio = codec.decode(expected.codes_TK.T)
            for run, of_run in zip((found, other), distances, strict=True):
                of_run.append(spectral_distance_db(audio, codec.decode(run.codes_TK.T), codec.sample_rate_hz))
        progress("comparing answers", seed + 1, len(requests))
    progress("timing steps in turns", len(requests), len(requests))
    seconds_NS = _step_seconds((reference, candidate), requests, runs)
    step = paired_ratio("step_ms", [(np.log(1e3 * seconds_NS[0]), np.log(1e3 * seconds_NS[1]))])
    of_requests = [diverge([ours], [theirs]) for ours, theirs in zip(*passes, strict=True)]
    return BundleComparison(
        forced=diverge(*passes),
        first_differences=tuple(differences),
        spectral_db=float(np.mean(distances[0])) if distances[0] else None,
        other_seed_db=float(np.mean(distances[1])) if distances[1] else None,
        graph_bytes=language_model_bytes(ours),
        reference_graph_bytes=language_model_bytes(theirs),
        step=step,
        intervals={
            **{name: _mean_interval([getattr(one, field) for one in of_requests]) for name, field in _FIELDS.items()},
            **({"spectral-db": _mean_interval(distances[0])} if distances[0] else {}),
            "speedup": (1 / step.high, 1 / step.low),
        },
    )


_FIELDS = {
    "router-agreement": "router_agreement", "equal-sets": "equal_sets", "logit-error": "logit_error", "kl": "kl_nats",
    "token-agreement": "token_agreement",
}  # fmt: skip


def _mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The bootstrap interval of a mean over requests, at 95 %."""
    random = np.random.default_rng(0)
    means = random.choice(np.asarray(values), (RESAMPLES, len(values))).mean(axis=1)
    return percentile_interval(means, _MEANS_CONFIDENCE)


def language_model_bytes(bundle: Bundle) -> int:
    """Bytes of the language model's graphs with their weights, without codec and embeddings."""
    graphs = [bundle.graphs[name] for name in language_model_graphs(bundle.model)]
    return sum(bundle.files[file].bytes for file in {file for graph in graphs for file in (graph.file, graph.weights)})


def _answer(backend: Backend, request: SampleRequest, steps: int, seed: int) -> _Run:
    sampling = limit_steps(request, steps, backend.bundle.model)
    made = list(generate(BundleModel(backend), request.prompt, backend.bundle.model, sampling, seed=seed))
    return _Run(rows_RK=np.stack([step.codes_UK[0] for step in made]), codes_TK=collect_frames(made)[0])


def _first_difference(first_RK: NDArray[np.int64], second_RK: NDArray[np.int64]) -> int | None:
    """The first different row; if only the lengths differ, the row at which the shorter one ends."""
    shared = min(len(first_RK), len(second_RK))
    differing = np.flatnonzero((first_RK[:shared] != second_RK[:shared]).any(axis=1))
    if len(differing):
        return int(differing[0])
    return None if len(first_RK) == len(second_RK) else shared


def _step_seconds(
    backends: Sequence[Backend], requests: Sequence[SampleRequest], runs: Sequence[_Run]
) -> NDArray[np.float64]:
    """Seconds of a decode step [backend, block]: the median of a block of steps. The backends alternate block by block.

    All make the same steps. The first blocks do not count, because they load the graphs. The first backend changes from
    block to block, so that a steady drift cancels.
    """
    seconds_NS = np.zeros((len(backends), _TIMED_BLOCKS))
    for block in range(-_TIMED_REQUESTS, _TIMED_BLOCKS):
        at = block % min(_TIMED_REQUESTS, len(runs))
        prompt = requests[at].prompt
        turns = list(enumerate(backends))
        for number, backend in turns if block % 2 else turns[::-1]:
            model = BundleModel(backend)
            model.prefill(prompt)
            times = []
            for index, row_K in enumerate(runs[at].rows_RK[:_BLOCK_STEPS]):
                codes_BK = np.tile(row_K, (prompt.num_rows, 1))
                position_B = prompt.first_position_B + np.float32(index)
                started = time.perf_counter()
                model.step(codes_BK, position_B)
                times.append(time.perf_counter() - started)
            seconds_NS[number, block] = np.median(times)
    return seconds_NS
