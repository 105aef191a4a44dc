"""Measuring settings one after another, and the resulting report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.files.json import read_json
from unimoe_tools.profiling.machine import describe_machine
from unimoe_tools.profiling.report import setting_line
from unimoe_tools.profiling.worker import Worker
from unimoe_tools.profiling.workload import Setting
from unimoe_tools.units import size

FORMAT = "unimoe-profile"
FORMAT_VERSION = 1
# Beyond these limits a run proves little: cores that other processes kept busy on average, and quartile spread of the
# bandwidth's readings as a part of their median.
NOISY_CORES = 0.1
NOISY_SPREAD = 0.15

Progress = Callable[[str, int, int], None]
"""Called with the current activity, the rounds done, and the number of rounds."""


def profile(
    settings: Sequence[Setting],
    *,
    warmup: int = 1,
    repetitions: int = 5,
    kernels: bool = False,
    trace: bool = False,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report over all settings, and trace events of each setting's last requests (only if requested).

    `kernels` measures every setting once more, in another process, with the engine's own profiler on: the kernels'
    detail and the trace come from that process, all other figures from the undisturbed one.
    Raises ConfigError for invalid counts, and any error of the runtime for a bundle or a request.
    """
    if not settings or repetitions < 1 or warmup < 0:
        raise ConfigError(
            f"{len(settings)} settings, {warmup} warm-ups, {repetitions} repetitions: there must be a setting, "
            "no negative number of warm-ups, and at least 1 repetition"
        )
    total = len(settings) * (warmup + repetitions + (2 if kernels else 0))
    done = 0

    def tick(label: str) -> None:
        nonlocal done
        if progress is not None:
            progress(label, done, total)
        done += 1

    machine, runs, events = describe_machine(), [], []
    for setting in settings:
        label = ", ".join((Path(setting.bundle).name, *setting_line(setting.to_dict())))
        with Worker(setting) as worker:
            for _ in range(warmup):
                tick(f"{label}: warming up")
                worker.warm_up()
            for _ in range(repetitions):
                tick(f"{label}: measuring")
                worker.repeat()
                worker.read()
            run = worker.finish(trace=trace and not kernels)
        events += run.pop("trace", [])
        if kernels:
            with Worker(replace(setting, kernels=True)) as worker:
                tick(f"{label}: warming up for the kernels")
                worker.warm_up()
                tick(f"{label}: kernels")
                worker.repeat()
                worker.read()
                detailed = worker.finish(trace=trace)
            events += detailed.pop("trace", [])
            run["kernels"] = {**detailed["kernels"], "parts": detailed["parts"]}
        run["notes"] = _notes(run)
        runs.append(run)
    report = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "machine": machine,
        "warmup": warmup,
        "repetitions": repetitions,
        "runs": runs,
    }
    return report, events


def read_report(path: Path | str) -> dict[str, Any]:
    """Read a report from JSON. Raises ConfigError, one line, where the file is not a report."""
    report = read_json(Path(path), ConfigError)
    if report.get("format") != FORMAT:
        raise ConfigError(f"{path}: not a profile; `unimoe profile BUNDLE --json {path}` writes one")
    if report.get("format_version") != FORMAT_VERSION:
        raise ConfigError(
            f"{path}: format version {report.get('format_version')!r}, this release reads {FORMAT_VERSION}; "
            "profile again"
        )
    return report


def _notes(run: dict[str, Any]) -> list[str]:
    """Notes on this run: noise, and parts far from their floor."""
    notes = []
    floor, cores = run["floor"], run["cores_of_others"]
    noise = []
    if cores is not None and cores > NOISY_CORES:
        noise.append(f"others kept {cores:.2f} cores busy")
    if floor["read_spread"] > NOISY_SPREAD:
        noise.append(f"memory reads spread by {100 * floor['read_spread']:.0f} % between quartiles")
    if noise:
        notes.append(f"WARNING: {' and '.join(noise)}: repeat on a quiet machine before concluding anything")
    if (cost := run["recording"]["cost"]) is not None:
        error = run["recording"]["cost_error"]
        slower = f"made the run {100 * cost:.1f} ± {100 * error:.1f} % slower"
        if cost < error:
            slower = f"cost no time that this run could measure ({100 * cost:.1f} ± {100 * error:.1f} %)"
        notes.append(
            f"{run['recording']['steps']} of {run['step']['count']} steps were recorded call by call, which {slower}"
        )
    if (residency := run["residency"]) is not None:
        notes.append(
            f"experts in at most {size(residency['peak_bytes'])} of {size(residency['budget_bytes'])}: "
            f"{100 * residency['hit_rate']:.1f} % of {residency['uses']} calls found theirs there, the others waited "
            f"{1e3 * residency['stall_s']:.0f} ms in all, prompts included"
        )
    for name, part in floor["parts"].items():
        if part["far"]:
            notes.append(
                f"{name} takes {part['ms']:.2f} ms a step, {part['ratio']:.1f} × its floor of {part['floor_ms']:.2f} ms"
            )
    if floor["fits_cache"]:
        notes.append(
            f"a step touches {floor['bytes_a_step'] / 1e6:.1f} MB, which fits this machine's last-level cache. It is "
            f"read at {floor['model_sized_bytes_per_s'] / 1e9:.1f} GB/s where it stays there, and at "
            f"{floor['read_bytes_per_s'] / 1e9:.1f} GB/s from memory: the floor is of the latter and may be beaten"
        )
    underruns = sum(one["underruns"] or 0 for one in run["generations"])
    if underruns:
        notes.append(f"{underruns} underruns: playback would have stopped to wait for a chunk")
    return notes
