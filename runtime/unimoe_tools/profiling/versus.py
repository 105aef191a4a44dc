"""Two settings run against each other, interleaved; or two profiles that were made before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from unimoe_runtime.errors import ConfigError
from unimoe_tools.profiling.compare import (
    CONFIDENCE,
    Block,
    Comparison,
    Record,
    Verdict,
    compare_blocks,
    compare_runs,
    interleave,
    narrow,
    quiet_blocks,
)
from unimoe_tools.profiling.machine import describe_machine
from unimoe_tools.profiling.report import setting_line
from unimoe_tools.profiling.sweep import NOISY_CORES, NOISY_SPREAD, Progress, read_report
from unimoe_tools.profiling.worker import Worker
from unimoe_tools.profiling.workload import Setting

FORMAT = "unimoe-comparison"
FORMAT_VERSION = 1
MOST_BLOCKS = 40
_LEAST_BLOCKS = 6
"""Fewer blocks than these can prove nothing at this confidence."""


def run_against(
    candidate: Setting, reference: Setting, *, warmup: int = 1, blocks: int = MOST_BLOCKS,
    progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Both settings in processes of their own, taking turns of a few steps.

    A block is one request, made by both; at most so many blocks of each, fewer where all intervals are narrow before.

    Raises ConfigError for too few blocks or another workload, and whatever a bundle or a request makes the runtime
    raise.
    """
    if blocks < _LEAST_BLOCKS:
        raise ConfigError(f"{blocks} repetitions; an interleaved comparison needs at least {_LEAST_BLOCKS}")
    if candidate.requests != reference.requests:
        raise ConfigError("the two bundles would make different requests; name the task and text")
    machine, found, reads = describe_machine(), list[Block](), list[float]()
    label = f"{_title(candidate.to_dict())} against {_title(reference.to_dict())}"
    with Worker(reference) as ours, Worker(candidate) as theirs:
        for _ in range(warmup):
            ours.warm_up()
            theirs.warm_up()

        for done in range(blocks):
            if progress is not None:
                progress(label, done, blocks)
            for request in range(len(reference.requests)):
                found.append(interleave((ours, theirs), request, first=done % 2))
            reads.append(ours.read())
            if done + 1 >= _LEAST_BLOCKS and narrow(found, compare_blocks(found)):
                break
    low, middle, high = np.percentile(reads, [25, 50, 75])
    spread = float((high - low) / middle)
    notes = []
    if left_out := len(found) - len(quiet_blocks(found)):
        notes.append(f"{left_out} of {len(found)} blocks left out: others had the cores then")
    if spread > NOISY_SPREAD:
        notes.append(f"WARNING: reads spread by {spread:.0%} between quartiles: the machine was not quiet")
    return _report(
        compare_blocks(found),
        _title(candidate.to_dict()),
        _title(reference.to_dict()),
        notes,
        machine=machine,
        blocks=[asdict(block) for block in found],
        reads_bytes_per_s=reads,
    )


def compare_reports(reference: Path, candidate: Path) -> list[dict[str, Any]]:
    """The second profile against the first, setting by setting.

    Raises ConfigError where the files are no profiles, or not of the same settings and requests.
    """
    reports = read_report(reference), read_report(candidate)
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
            notes + _noise(before, reference) + _noise(after, candidate),
            machines=[report["machine"] for report in reports],
        )
        for before, after in zip(*runs, strict=True)
    ]


def _title(setting: Record) -> str:
    return ", ".join((Path(setting["bundle"]).name, *setting_line(setting)))


def _noise(run: Record, path: Path) -> list[str]:
    notes = []
    cores, spread = run["cores_of_others"], run["floor"]["read_spread"]
    if cores is not None and cores > NOISY_CORES:
        notes.append(f"WARNING: {path}: others kept {cores:.2f} cores busy")
    if spread > NOISY_SPREAD:
        notes.append(f"WARNING: {path}: reads spread by {spread:.0%} between quartiles")
    return notes


def _report(
    comparisons: Sequence[Comparison], candidate: str, reference: str, notes: list[str], **more: Any
) -> dict[str, Any]:
    unclear = [one.measure for one in comparisons if one.verdict == Verdict.UNCLEAR]
    if unclear:
        notes = [*notes, f"WARNING: too noisy to tell: {', '.join(unclear)}; repeat on a quiet machine, or more often"]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "candidate": candidate,
        "reference": reference,
        "confidence": CONFIDENCE,
        "measures": [one.to_dict() for one in comparisons],
        "slower": any(one.verdict == Verdict.SLOWER for one in comparisons),
        "notes": notes,
        **more,
    }
