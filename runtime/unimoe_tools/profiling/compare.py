"""Whether one setting is slower than another, from alternating runs or from two earlier profiles.

Separate runs cannot cancel drift. Their intervals are widened by the change in speed of a reference kernel, timed in
both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.records import shown
from unimoe_tools.parity.ratios import CONFIDENCE, Ratio, Verdict, interval, medians, separate_ratio
from unimoe_tools.profiling.blocks import MEASURES, Block, Record, compare_blocks, interleave, narrow, quiet_blocks
from unimoe_tools.profiling.machine import describe_machine
from unimoe_tools.profiling.report import COLUMNS, setting_line
from unimoe_tools.profiling.sweep import NOISY_CORES, NOISY_SPREAD, Progress, read_report
from unimoe_tools.profiling.worker import Worker
from unimoe_tools.profiling.workload import Setting
from unimoe_tools.units import count, duration, percent

FORMAT = "unimoe-comparison"
FORMAT_VERSION = 1
FEWEST_ROUNDS = 6
"""The fewest rounds that can prove a difference at this confidence."""
FEWEST_REPETITIONS = 3
"""The fewest repetitions of two separate profiles that give an interval: one repetition has no spread at all."""


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """The length of a comparison: at most this number of rounds and minutes, after warm-ups that do not count."""

    most: int = 40
    max_minutes: float = 5.0
    warmup: int = 1

    def __post_init__(self) -> None:
        if self.most < FEWEST_ROUNDS:
            raise ConfigError(f"{self.most} repetitions; an interleaved comparison needs at least {FEWEST_ROUNDS}")
        if not self.max_minutes > 0:
            raise ConfigError(f"max_minutes is {self.max_minutes}; it must be above 0")
        if self.warmup < 0:
            raise ConfigError(f"warmup is {self.warmup}; it must be 0 or more")


def run_against(
    candidate: Setting,
    reference: Setting,
    rounds: Rounds | None = None,
    *,
    progress: Progress | None = None,
    announce: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
    """Run both settings in separate processes, alternating every few steps.

    A round is every request once, made by both. The comparison ends early where all intervals are narrow.
    `announce` receives the expected duration after the warm-up; `progress` receives the verdict so far.

    Raises ConfigError for different workloads, and any error of the runtime for a bundle or a request.
    """
    rounds = rounds or Rounds()
    if candidate.requests != reference.requests:
        raise ConfigError("the two bundles would make different requests; name the task and text")
    machine, blocks, reads = describe_machine(), list[Block](), list[float]()
    tell: Progress = progress or (lambda what, done, total: None)
    tell("warming up", 0, rounds.most)
    with Worker(reference) as ours, Worker(candidate) as theirs:
        started = time.perf_counter()
        for _ in range(max(rounds.warmup, 1)):
            ours.warm_up()
            theirs.warm_up()
        round_s = (time.perf_counter() - started) / max(rounds.warmup, 1)
        announce(announcement(round_s, rounds))
        tell("first round", 0, rounds.most)
        deadline = time.perf_counter() + 60 * rounds.max_minutes
        for done in range(rounds.most):
            for request in range(len(reference.requests)):
                blocks.append(interleave((ours, theirs), request, first=done % 2))
            reads.append(ours.read())
            ratios = compare_blocks(blocks)
            tell(interim(ratios, done + 1), done + 1, rounds.most)
            out_of_time = time.perf_counter() > deadline
            if out_of_time or (done + 1 >= FEWEST_ROUNDS and narrow(blocks, ratios)):
                break
    notes = _block_notes(blocks, reads, rounds)
    if len(reads) < FEWEST_ROUNDS:
        ratios = _without_verdict(ratios)
    return _report(
        ratios, _title(candidate.to_dict()), _title(reference.to_dict()), notes,
        machine=machine, rounds=len(reads), blocks=[asdict(block) for block in blocks], reads_bytes_per_s=reads,
    )  # fmt: skip


def announcement(round_s: float, rounds: Rounds) -> str:
    """The expected duration of a comparison in words, from the seconds of a round."""
    least, most = FEWEST_ROUNDS * round_s, min(rounds.most * round_s, 60 * rounds.max_minutes)
    if least > 60 * rounds.max_minutes:
        return (
            f"a round takes about {duration(round_s)}, so the {FEWEST_ROUNDS} rounds that a verdict needs take "
            f"{duration(least)}: --max-minutes {rounds.max_minutes:g} ends the comparison before a verdict"
        )
    expected = duration(most) if most <= least else f"{duration(least)} to {duration(most)}"
    return (
        f"a round takes about {duration(round_s)}: the comparison takes {expected}, as its intervals need "
        f"(at least {FEWEST_ROUNDS} rounds; limits: --repetitions {rounds.most}, --max-minutes {rounds.max_minutes:g})"
    )


def interim(ratios: Sequence[Ratio], num_rounds: int) -> str:
    """The verdict so far on the median step. Fewer than `FEWEST_ROUNDS` rounds give no interval."""
    step = ratios[0]
    if num_rounds < FEWEST_ROUNDS:
        return f"so far {100 * (step.ratio - 1):+.1f} % a step; no verdict before {FEWEST_ROUNDS} rounds"
    low, middle, high = (100 * (value - 1) for value in (step.low, step.ratio, step.high))
    return f"so far {middle:+.1f} % a step ({low:+.1f} to {high:+.1f}): {step.verdict}"


def _block_notes(blocks: Sequence[Block], reads: Sequence[float], rounds: Rounds) -> list[str]:
    low, middle, high = np.percentile(reads, [25, 50, 75])
    spread = float((high - low) / middle)
    notes = []
    if left_out := len(blocks) - len(quiet_blocks(blocks)):
        notes.append(f"{left_out} of {len(blocks)} blocks left out: other processes had the cores then")
    if spread > NOISY_SPREAD:
        notes.append(f"WARNING: memory reads spread by {percent(spread, 0)} between quartiles: a busy machine")
    if len(reads) < FEWEST_ROUNDS:
        notes.append(
            f"WARNING: stopped after {count(len(reads), 'round')} by --max-minutes {rounds.max_minutes:g}; a verdict "
            f"needs {FEWEST_ROUNDS} rounds: raise --max-minutes, or shorten the requests (--task, --text, --steps)"
        )
    return notes


def compare_reports(reference: Path, candidate: Path) -> list[dict[str, Any]]:
    """The second profile against the first, setting by setting.

    Raises ConfigError where the files are not profiles or are damaged, or their settings and requests differ.
    """
    reports = read_report(reference), read_report(candidate)
    try:
        return _compare(reference, candidate, reports)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{reference} or {candidate}: damaged ({type(error).__name__}: {shown(str(error))}); profile again"
        ) from None


def _compare(reference: Path, candidate: Path, reports: tuple[dict[str, Any], dict[str, Any]]) -> list[dict[str, Any]]:
    runs = [report["runs"] for report in reports]
    if len(runs[0]) != len(runs[1]):
        raise ConfigError(
            f"{reference} has {len(runs[0])} settings and {candidate} {len(runs[1])}; profile the same ones"
        )
    notes = []
    for field in ("cpu", "cores", "onnxruntime", "numpy", "python"):
        before, after = (report["machine"].get(field) for report in reports)
        if before != after:
            notes.append(f"WARNING: {field} was {before}, then {after}")
    return [
        _report(
            compare_runs(before, after),
            f"{_title(after['setting'])} ({candidate})",
            f"{_title(before['setting'])} ({reference})",
            notes + _run_notes(before, reference) + _run_notes(after, candidate),
            machines=[report["machine"] for report in reports],
        )
        for before, after in zip(*runs, strict=True)
    ]


def compare_runs(reference: Record, candidate: Record) -> list[Ratio]:
    """Two separate runs compared request by request; fewer than `FEWEST_REPETITIONS` give no verdict.

    Raises ConfigError where requests differ.
    """
    by_request = [_by_request(run) for run in (reference, candidate)]
    if by_request[0].keys() != by_request[1].keys():
        raise ConfigError("the two profiles made different requests; profile both with the same texts")
    drift = _drift(reference, candidate)
    ratios = []
    for name, measure in MEASURES.items():
        samples = [
            [np.log([value for one in requests[key] if (value := measure(one)) is not None]) for key in by_request[0]]
            for requests in by_request
        ]
        pairs = [(before, after) for before, after in zip(*samples, strict=True) if len(before) and len(after)]
        if pairs:
            ratios.append(separate_ratio(name, pairs, drift))
    too_few = min(_repetitions(reference), _repetitions(candidate)) < FEWEST_REPETITIONS
    return _without_verdict(ratios) if too_few else ratios


def _without_verdict(ratios: Sequence[Ratio]) -> list[Ratio]:
    return [Ratio(**{**asdict(one), "verdict": Verdict.STOPPED}) for one in ratios]


def _repetitions(run: Record) -> int:
    """Repetitions of the request that has the fewest."""
    return min((len(each) for each in _by_request(run).values()), default=0)


def _by_request(run: Record) -> dict[tuple[str, str, int], list[Record]]:
    found: dict[tuple[str, str, int], list[Record]] = {}
    for one in run["generations"]:
        found.setdefault((one["task"], one["caption"], one["seed"]), []).append(one)
    return found


def _drift(reference: Record, candidate: Record) -> float:
    """The possible difference of the machine's speed between the runs, as a logarithm: the far end of the interval of
    the reference kernel's ratio."""
    reads = [np.log(run["floor"]["reads_bytes_per_s"]) for run in (reference, candidate)]
    low, high = interval(lambda random: medians(reads[0], random) - medians(reads[1], random))
    return max(abs(low), abs(high))


def _title(setting: Record) -> str:
    return ", ".join((Path(setting["bundle"]).name, *setting_line(setting)))


def _run_notes(run: Record, path: Path) -> list[str]:
    notes = []
    cores, spread = run["cores_of_others"], run["floor"]["read_spread"]
    if cores is not None and cores > NOISY_CORES:
        notes.append(f"WARNING: {path}: others kept {cores:.2f} cores busy")
    if spread > NOISY_SPREAD:
        notes.append(f"WARNING: {path}: memory reads spread by {percent(spread, 0)} between quartiles")
    if (found := _repetitions(run)) < FEWEST_REPETITIONS:
        notes.append(
            f"WARNING: {path}: {count(found, 'repetition')}; a verdict needs {FEWEST_REPETITIONS}: profile again with "
            "more --repetitions"
        )
    return notes


def _report(ratios: Sequence[Ratio], candidate: str, reference: str, notes: list[str], **more: Any) -> dict[str, Any]:
    unclear = [COLUMNS[one.measure][0] for one in ratios if one.verdict == Verdict.UNCLEAR]
    if unclear:
        again = "Repeat on a quiet machine, or with more --repetitions"
        notes = [*notes, f"WARNING: too noisy to tell: {'; '.join(unclear)}. {again}"]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "candidate": candidate,
        "reference": reference,
        "confidence": CONFIDENCE,
        "measures": [one.to_dict() for one in ratios],
        "slower": any(one.verdict == Verdict.SLOWER for one in ratios),
        "notes": notes,
        **more,
    }
