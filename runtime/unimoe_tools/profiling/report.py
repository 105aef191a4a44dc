"""A report as flat rows: one table for terminals, spreadsheets and Markdown, and the output files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unimoe_runtime.hardware.precisions import shown_precision
from unimoe_tools.parity.ratios import Verdict
from unimoe_tools.units import count, plus_minus

Record = Mapping[str, Any]

# Title and form of a figure in a row: the unit in the name, digits after the point.
COLUMNS: Mapping[str, tuple[str, int]] = {
    "load_ms": ("load, ms", 0),
    "prefill_ms": ("prefill, median ms", 1),
    "cold_ttfa_ms": ("first audio when cold, ms", 0),
    "ttfa_ms": ("first audio (TTFA), median ms", 1),
    "step_mean_ms": ("step, mean ms", 2),
    "step_p50_ms": ("step, median ms", 2),
    "step_p90_ms": ("step, p90 ms", 2),
    "step_p99_ms": ("step, p99 ms", 2),
    "step_max_ms": ("step, max ms", 2),
    "rtf": ("RTF, median", 3),
    "frames_per_s": ("frames a second, median", 1),
    "underruns": ("underruns", 0),
    "peak_memory_mb": ("peak memory, MB", 0),
    "anonymous_mb": ("of it anonymous, MB", 0),
    "device_mb": ("device memory, MB", 0),
    "energy_j_per_audio_s": ("J a second of audio, median", 2),
    "experts_a_step": ("experts a step, mean", 2),
    "null_share": ("null share, mean", 3),
    "mb_a_step": ("MB a step, mean", 1),
    "floor_ms": ("floor of a step, ms", 2),
    "to_floor": ("mean step over floor", 2),
}


def flat(run: Record) -> dict[str, Any]:
    """One setting's figures in one flat row: medians over requests and repetitions. None: not reported."""
    generations, setting, step, floor, memory = (
        run[name] for name in ("generations", "setting", "step", "floor", "memory")
    )

    def middle(name: str) -> float | None:
        values = [one[name] for one in generations if one[name] is not None]
        return float(np.median(values)) if values else None

    errors = run.get("means_errors") or {}  # reports of earlier releases lack them
    step_error = step.get("mean_error_ms")
    energy = [one["energy_j"] / one["audio_s"] for one in generations if one["energy_j"] and one["audio_s"]]
    underruns = [one["underruns"] for one in generations if one["underruns"] is not None]
    steps = sum(task["steps"] for task in run["tasks"].values())
    return {
        "bundle": run["bundle"]["name"],
        "precision": "+".join(dict.fromkeys(map(shown_precision, run["bundle"]["precisions"]))),
        "threads": setting["threads"],
        "rows": setting["rows"],
        "load_ms": sum(run["load_ms"].values()),
        "prefill_ms": middle("prefill_ms"),
        "cold_ttfa_ms": run["cold"]["ttfa_ms"] if run["cold"] else None,
        "ttfa_ms": middle("ttfa_ms"),
        **{f"step_{name}": step[name] for name in ("mean_ms", "p50_ms", "p90_ms", "p99_ms", "max_ms")},
        "step_mean_error_ms": step_error,
        "rtf": middle("rtf"),
        "frames_per_s": middle("frames_per_s"),
        "underruns": sum(underruns) if underruns else None,
        "peak_memory_mb": memory["peak_bytes"] / 1e6 if memory else None,
        "anonymous_mb": memory["anonymous_bytes"] / 1e6 if memory else None,
        "device_mb": memory["device_peak_bytes"] / 1e6 if memory and memory["device_peak_bytes"] else None,
        "energy_j_per_audio_s": float(np.median(energy)) if energy else None,
        "experts_a_step": sum(layer["launched"] for layer in run["layers"]),
        "experts_a_step_error": errors.get("launched"),
        "null_share": sum(task["null_share"] * task["steps"] for task in run["tasks"].values()) / steps,
        "null_share_error": errors.get("null_share"),
        "mb_a_step": floor["bytes_a_step"] / 1e6,
        "mb_a_step_error": None if errors.get("bytes") is None else errors["bytes"] / 1e6,
        "floor_ms": floor["floor_ms"],
        "to_floor": floor["ratio"],
        "to_floor_error": None if step_error is None else step_error / floor["floor_ms"],
    }


def shown(value: Any, digits: int) -> str:
    """A figure as text; a dash for an unknown value."""
    return "–" if value is None else f"{value:,.{digits}f}"


def shown_row(row: Record, name: str) -> str:
    """A figure of a flat row as text: a mean with its error, where it has one."""
    digits = COLUMNS[name][1]
    error = row.get(f"{name.removesuffix('_ms')}_error_ms", row.get(f"{name}_error"))
    return shown(row[name], digits) if error is None else plus_minus(row[name], error, digits)


def figure_rows(rows: Sequence[Record]) -> list[list[str]]:
    """The figures of flat rows side by side, a line for each figure that at least one row has."""
    return [
        [title, *(shown_row(row, name) for row in rows)]
        for name, (title, _) in COLUMNS.items()
        if any(row[name] is not None for row in rows)
    ]


def as_csv(report: Record) -> str:
    """A row for each setting, with columns for the breakdown's milliseconds per step. Empty field: not reported."""
    rows = [{**flat(run), **{f"{name}_ms": part["ms_a_step"] for name, part in run["parts"].items()}}
            for run in report["runs"]]  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_markdown(report: Record) -> str:
    """The machine, a table with a column for each setting, and each setting's breakdown, layers and notes."""
    rows = [flat(run) for run in report["runs"]]
    lines = [machine_line(report), ""]
    heads = [" · ".join((row["bundle"], row["precision"], *setting_line(row))) for row in rows]
    lines += _markdown_table(
        ["", *heads],
        figure_rows(rows),
    )
    for run, head in zip(report["runs"], heads, strict=True):
        lines += ["", f"**{head}**", ""]
        lines += _markdown_table(PART_COLUMNS, part_rows(run))
        lines += [""]
        lines += _markdown_table(LAYER_COLUMNS, layer_rows(run))
        if "kernels" in run:
            lines += ["", *_markdown_table(KERNEL_COLUMNS, kernel_rows(run))]
        lines += ["", *(f"- {note}" for note in run["notes"])]
    return "\n".join(lines) + "\n"


def machine_line(report: Record) -> str:
    """The machine in one line."""
    machine = report["machine"]
    versions = [
        f"{name} {machine[name]}" for name in ("python", "onnxruntime", "onnxruntime-gpu", "numpy") if name in machine
    ]
    clock = f", {machine['clock_mhz']:.0f} MHz" if machine["clock_mhz"] else ""
    return (
        f"{machine['cpu']}{clock}, {machine['cores']} cores, load {machine['load_average']:.2f}, "
        f"{', '.join(versions)}, {machine['date']}; warm-ups {report['warmup']}, repetitions {report['repetitions']}"
    )


def setting_line(row: Record) -> list[str]:
    """Threads and rows in words."""
    threads = "all cores" if row["threads"] is None else count(row["threads"], "thread")
    return [threads, count(row["rows"], "row")]


PART_COLUMNS = ("part", "mean ms a step", "share", "MB", "floor ms", "× floor")


def part_rows(run: Record) -> list[list[str]]:
    """The breakdown: name, milliseconds per step with two standard errors, share, floor of parts with weights."""
    rows = []
    for name, part in run["parts"].items():
        floor = run["floor"]["parts"].get(name)
        reads = floor is not None and name != "inputs"
        rows.append([
            name.replace("_", "-"),
            plus_minus(part["ms_a_step"], part.get("error_ms"), 3),
            f"{100 * part['share']:.1f} %",
            shown(floor["bytes"] / 1e6, 2) if reads else "",
            shown(floor["floor_ms"], 3) if reads else "",
            (shown(floor["ratio"], 2) + (" far" if floor["far"] else "")) if reads else "",
        ])  # fmt: skip
    return rows


LAYER_COLUMNS = (
    "layer", "trunk, mean ms", "experts, mean ms", "launched, mean", "picked a row, mean", "null share, mean", "MB",
)  # fmt: skip


def layer_rows(run: Record) -> list[list[str]]:
    """Per layer: time, launched experts (the union over rows), picks of one row, null share, bytes touched."""
    return [
        [
            str(layer["layer"]),
            plus_minus(layer["trunk_ms"], layer.get("trunk_error_ms"), 2),
            plus_minus(layer["expert_ms"], layer.get("expert_error_ms"), 2),
            plus_minus(layer["launched"], layer.get("launched_error"), 2),
            plus_minus(layer["picked_a_row"], layer.get("picked_a_row_error"), 2),
            plus_minus(layer["null_share"], layer.get("null_share_error"), 3),
            shown(layer["bytes"] / 1e6, 2),
        ]
        for layer in run["layers"]
    ]


KERNEL_COLUMNS = ("graph", "operator", "calls a step", "ms a step", "share")
_MOST_KERNELS = 12


def kernel_rows(run: Record) -> list[list[str]]:
    """The operators with the most time, from the engine's own profiler; shares are of all kernels."""
    rows = run["kernels"]["operators"]
    total = sum(row["ms_a_step"] for row in rows) or 1.0
    return [
        [
            row["graph"],
            row["operator"],
            shown(row["calls_a_step"], 1),
            shown(row["ms_a_step"], 3),
            f"{100 * row['ms_a_step'] / total:.1f} %",
        ]
        for row in rows[:_MOST_KERNELS]
    ]


_COMPARED_DIGITS = {"rtf": 4}


def comparison_rows(comparison: Record) -> list[list[str]]:
    """A comparison's measures: name, reference, candidate, ratio, interval, verdict. No interval of too few rounds."""
    rows = []
    for one in comparison["measures"]:
        digits = _COMPARED_DIGITS.get(one["measure"], 2)
        rows.append([
            COLUMNS.get(one["measure"], (one["measure"], 0))[0],
            shown(one["reference"], digits),
            shown(one["candidate"], digits),
            shown(one["ratio"], 3),
            "–" if one["verdict"] == Verdict.STOPPED else f"{one['low']:.3f}–{one['high']:.3f}",
            one["verdict"],
        ])  # fmt: skip
    return rows


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def as_json(value: Any) -> str:
    """One line of JSON."""
    return json.dumps(value) + "\n"


def as_jsonl(report: Record) -> str:
    """One line for each setting, a JSON object: the flat row and the machine."""
    return "".join(json.dumps({**flat(run), "machine": report["machine"]}) + "\n" for run in report["runs"])


def is_noisy(report: Record) -> bool:
    """Whether any run has a warning about noise."""
    return any(note.startswith("WARNING") for run in report["runs"] for note in run["notes"])
