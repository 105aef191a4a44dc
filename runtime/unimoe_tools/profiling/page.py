"""One page with everything: self-contained, without scripts, readable on a laptop and on paper.

Every drawing is inline SVG (svg.py), so the page makes no request of any kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from unimoe_tools.pages.style import STYLE
from unimoe_tools.pages.svg import (
    WIDTH,
    Axes,
    area,
    bars,
    figure,
    heat_map,
    legend,
    stacked_rows,
    stacked_steps,
    steps_line,
    tag,
    text,
)
from unimoe_tools.profiling.report import (
    COLUMNS,
    KERNEL_COLUMNS,
    LAYER_COLUMNS,
    flat,
    kernel_rows,
    layer_rows,
    machine_line,
    part_rows,
    setting_line,
    shown,
)

Record = Mapping[str, Any]

COLOURS = {
    "inputs": "#9aa7b5", "trunk": "#3f6fb5", "read_back": "#79c2d0", "dispatch": "#c8503f", "expert": "#e39a3b",
    "head": "#4f9d69", "sampling": "#8b6bb1", "codec": "#c9b23f", "host": "#c9ced6",
}  # fmt: skip
_NAMES = {
    "inputs": "inputs", "trunk": "trunks", "read_back": "router read-back", "dispatch": "dispatch in Python",
    "expert": "experts", "head": "head", "sampling": "sampling", "codec": "codec", "host": "host",
}  # fmt: skip
_MOST_STEPS = 600  # drawn one by one; a longer generation is shown up to here


def as_html(report: Record) -> str:
    """The page of a report."""
    runs = report["runs"]
    names = ", ".join(dict.fromkeys(run["bundle"]["name"] for run in runs))
    body = [
        "<header><h1>Where the time goes</h1>",
        f'<p class="lead">{escape(names)} · {escape(machine_line(report))}</p></header>',
        _settings(runs) if len(runs) > 1 else "",
        *(_run(run, many=len(runs) > 1) for run in runs),
        _machine(report["machine"]),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Profile of {escape(names)}</title><style>{STYLE}</style></head>\n<body><main>"
        + "\n".join(body)
        + "</main></body></html>\n"
    )


def _settings(runs: Sequence[Record]) -> str:
    rows = [flat(run) for run in runs]
    heads = [" · ".join((row["bundle"], row["precision"], *setting_line(row))) for row in rows]
    cells = [[title, *(shown(row[name], digits) for row in rows)] for name, (title, digits) in COLUMNS.items()]
    return f"<section><h2>All settings</h2>{_table(['', *heads], cells)}</section>"


def _run(run: Record, *, many: bool) -> str:
    row = flat(run)
    title = " · ".join((row["bundle"], row["precision"], *setting_line(row))) if many else ""
    return "\n".join(
        [
            f'<section class="run"><h2>{escape(title)}</h2>' if many else '<section class="run">',
            _cards(run, row),
            "".join(
                f'<p class="{"warning" if note.startswith("WARNING") else "remark"}">{escape(note)}</p>'
                for note in run["notes"]
            ),
            _breakdown(run),
            *(_timeline(run, timeline) for timeline in run["timeline"]),
            _histogram(run),
            _layers(run),
            _experts(run),
            _memory(run),
            _kernels(run),
            "</section>",
        ]
    )


def _cards(run: Record, row: Record) -> str:
    """The figures that are read first."""
    setting, bundle, floor = run["setting"], run["bundle"], run["floor"]
    weights = f"weights {bundle['weight_bytes'] / 1e6:.0f} MB"
    cards = [
        (
            "real-time factor",
            shown(row["rtf"], 3),
            "compute seconds per second of audio; below 1 is faster than real time",
        ),
        (
            "first playable chunk",
            f"{shown(row['ttfa_ms'], 0)} ms",
            f"from the request, {setting['chunk_frames'][0]} frames; cold {shown(row['cold_ttfa_ms'], 0)} ms",
        ),
        (
            "a step",
            f"{shown(row['step_p50_ms'], 2)} ms",
            "median; " + ", ".join(f"{name} {shown(row[f'step_{name}_ms'], 2)}" for name in ("p90", "p99", "max")),
        ),
        (
            "frames a second",
            shown(row["frames_per_s"], 0),
            f"{shown(bundle['frame_rate_hz'], 0)} are one second of audio; underruns {shown(row['underruns'], 0)}",
        ),
        (
            "step over floor",
            f"{shown(row['to_floor'], 2)} ×",
            f"{shown(row['mb_a_step'], 1)} MB a step at {floor['read_bytes_per_s'] / 1e9:.1f} GB/s",
        ),
        (
            "peak memory",
            f"{shown(row['peak_memory_mb'], 0)} MB",
            f"of it anonymous {shown(row['anonymous_mb'], 0)} MB; {weights}",
        ),
    ]
    drawn = "".join(
        f"<div><h3>{escape(name)}</h3><strong>{escape(value)}</strong><p>{escape(note)}</p></div>"
        for name, value, note in cards
    )
    return f'<div class="cards">{drawn}</div>'


def _breakdown(run: Record) -> str:
    parts = run["parts"]
    total = sum(part["ms_a_step"] for part in parts.values())
    height, x, drawn = 46, 0.0, []
    for name, part in parts.items():
        width = part["share"] * WIDTH
        title = tag("title", f"{_NAMES[name]}: {part['ms_a_step']:.3f} ms a step, {100 * part['share']:.1f} %")
        drawn.append(tag("rect", title, x=x, y=0, width=width, height=height, fill=COLOURS[name]))
        if part["share"] > 0.045:
            drawn.append(text(x + width / 2, 28, f"{100 * part['share']:.0f} %", class_="on-bar"))
        x += width
    table = _table(["part", "ms a step", "share", "MB", "floor ms", "× floor"], part_rows(run))
    return _figure(
        f"A step is {total:.2f} ms, codec and host included",
        legend({_NAMES[name]: COLOURS[name] for name in parts}) + figure(drawn, height, "shares of a step") + table,
        f"Decoding, all repetitions. The parts add up to {100 * run['coverage']:.1f} % of the wall time. The floor "
        f"is the bytes a part must read over {run['floor']['read_bytes_per_s'] / 1e9:.1f} GB/s, measured in this run; "
        f"a buffer of the model's size is read at {run['floor']['model_sized_bytes_per_s'] / 1e9:.1f} GB/s.",
    )


def _timeline(run: Record, timeline: Record) -> str:
    steps, codec = (np.array(timeline[name][:_MOST_STEPS]) for name in ("step_ms", "codec_ms"))
    recorded = [index for index in timeline["recorded"] if index < len(steps)]
    parts = {name: values[: len(recorded)] for name, values in timeline["parts"].items()}
    top = 1.25 * float(np.percentile(steps, 99))
    axes = stacked_steps(parts, COLOURS, recorded, len(steps), top=top, x_label="step", y_label="ms")
    if len(recorded) < len(steps):
        axes.parts.append(steps_line(axes, steps.tolist()))
    for label in ("p50", "p99"):
        if run["step"][f"{label}_ms"] < top:
            axes.horizontal(run["step"][f"{label}_ms"], label)
    for index, spent_ms in enumerate(codec):
        if spent_ms > 0:
            title = tag("title", f"after step {index} a chunk was decoded: {spent_ms:.2f} ms")
            x, y = axes.x(index + 0.5), axes.y(0)
            axes.parts.append(
                tag("path", title, d=f"M{x:.1f} {y + 1:.1f}l5 8h-10z", fill=COLOURS["codec"], stroke="none")
            )
    for index in np.flatnonzero(steps > top).tolist():
        title = tag("title", f"step {index}: {steps[index]:.2f} ms")
        axes.parts.append(tag("circle", title, cx=axes.x(index + 0.5), cy=axes.y(top) - 4, r=2.6, class_="outlier"))
    return _figure(
        f"Step by step: {timeline['task']}",
        legend({_NAMES[name]: COLOURS[name] for name in parts}) + figure(axes.parts, axes.height, "time of each step"),
        f"“{timeline['caption']}”, last repetition. The line is every step; colours are the parts of those that were "
        "recorded call by call, drawn up to the next of them. A triangle: a chunk was decoded after this step. "
        "A dot: the step took longer than is drawn.",
    )


def _histogram(run: Record) -> str:
    steps = np.concatenate([generation["step_ms"] for generation in run["generations"]])
    high = max(float(np.percentile(steps, 99.5)), float(steps.min()) + 1e-3)
    counts, edges = np.histogram(np.minimum(steps, high), bins=60, range=(float(steps.min()), high))
    axes = Axes(
        x0=float(edges[0]), x1=high, top=1.15 * float(counts.max()), height=220, x_label="ms a step", y_label="steps"
    )
    axes.parts += bars(axes, edges.tolist(), counts.tolist(), "ms")
    for row, rank in enumerate(("p50", "p90", "p99")):
        value = run["step"][f"{rank}_ms"]
        axes.vertical(min(value, high), f"{rank} {value:.2f} ms", row)
    return _figure(
        "How long a step takes",
        figure(axes.parts, axes.height, "histogram of step times"),
        f"{len(steps)} steps of all repetitions; the last bar holds the slowest half per cent, up to "
        f"{steps.max():.1f} ms.",
    )


def _layers(run: Record) -> str:
    names = ("trunk", "read_back", "dispatch", "expert")
    rows = {f"layer {layer['layer']}": {name: layer[f"{name}_ms"] for name in names} for layer in run["layers"]}
    drawn = legend({_NAMES[name]: COLOURS[name] for name in names}) + stacked_rows(rows, COLOURS, unit="ms a step")
    return _figure(
        "Layer by layer",
        drawn + _table(LAYER_COLUMNS, layer_rows(run)),
        "Milliseconds a step; megabytes that a step touches. Launched is the union over rows, picked what one row "
        "asked for.",
    )


def _experts(run: Record) -> str:
    """Who runs where, by domain, and how many at once."""
    routed = run["bundle"]["routed_experts"]
    if not routed:
        return ""
    maps = []
    half = WIDTH / 2 - 8 if routed <= 16 else WIDTH
    histograms = [row for figures in run["tasks"].values() for row in figures["launched_histogram"]]
    most = max(index for row in histograms for index, count in enumerate(row) if count)
    for task, figures in run["tasks"].items():
        launched = heat_map(
            figures["launch_share"], columns=[str(expert) for expert in range(routed)], row_name="layer",
            hint="of the steps", width=half,
        )  # fmt: skip
        shares = [[count / max(sum(row), 1) for count in row] for row in figures["launched_histogram"]]
        numbers = heat_map(
            [row[: most + 1] for row in shares], columns=[str(count) for count in range(most + 1)], row_name="layer",
            hint="of the steps launched so many", width=half,
        )  # fmt: skip
        maps.append(
            f"<div><h4>{escape(task)}: which expert ran, % of steps</h4>{launched}</div>"
            f"<div><h4>{escape(task)}: how many ran at once, % of steps</h4>{numbers}</div>"
        )
    words = "; ".join(
        f"{task} {figures['launched_a_step']:.2f} experts a step, null share {100 * figures['null_share']:.1f} %"
        for task, figures in run["tasks"].items()
    )
    return _figure(
        "Experts by domain", f'<div class="maps">{"".join(maps)}</div>', f"Rows are layers. Over all layers: {words}."
    )


def _memory(run: Record) -> str:
    memory = run["memory"]
    if memory is None or len(memory["curve"]) < 2:
        return ""
    xs = [reading["at_s"] for reading in memory["curve"]]
    anonymous, file = (
        [reading[f"{kind}_bytes"] / 1e6 for reading in memory["curve"]] for kind in ("anonymous", "file")
    )
    both = [first + second for first, second in zip(anonymous, file, strict=True)]
    top = 1.15 * max(*both, memory["peak_bytes"] / 1e6)
    axes = Axes(x0=0, x1=xs[-1], top=top, height=200, x_label="seconds", y_label="MB")
    axes.parts.append(area(axes, xs, [0.0] * len(xs), anonymous, COLOURS["trunk"], "anonymous"))
    axes.parts.append(area(axes, xs, anonymous, both, COLOURS["read_back"], "file-backed"))
    axes.horizontal(memory["peak_bytes"] / 1e6, f"peak {memory['peak_bytes'] / 1e6:.0f} MB")
    drawn = legend({"anonymous": COLOURS["trunk"], "file-backed": COLOURS["read_back"]})
    return _figure(
        "Memory",
        drawn + figure(axes.parts, axes.height, "resident memory over time"),
        "Resident memory of the process: opening, loading, warming up, first repetition. File-backed pages can be "
        "dropped and read again.",
    )


def _kernels(run: Record) -> str:
    if "kernels" not in run:
        return ""
    return _figure(
        "Kernels",
        _table(KERNEL_COLUMNS, kernel_rows(run)),
        "The engine's own profiler, in a run of its own: it slows every kernel, so compare shares, not times.",
    )


def _machine(machine: Record) -> str:
    rows = [[name.replace("_", " "), "not told" if value is None else str(value)] for name, value in machine.items()]
    return f'<section class="machine"><h2>Machine</h2>{_table(["", ""], rows)}</section>'


def _figure(title: str, content: str, caption: str) -> str:
    return f"<figure><h3>{escape(title)}</h3>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    head = f"<thead><tr>{head}</tr></thead>" if any(columns) else ""
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'
