"""The figures of a profile's page, one function each."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from unimoe_tools.pages.charts import area, bars, heat_map, stacked_rows, stacked_steps, steps_line
from unimoe_tools.pages.svg import WIDTH, Axes, figure, legend, tag, text
from unimoe_tools.pages.template import figure_box, table
from unimoe_tools.profiling.report import (
    KERNEL_COLUMNS,
    LAYER_COLUMNS,
    PART_COLUMNS,
    kernel_rows,
    layer_rows,
    part_rows,
)

Record = Mapping[str, Any]

COLOURS = {
    "inputs": "#9aa7b5", "trunk": "#3f6fb5", "read_back": "#79c2d0", "dispatch": "#c8503f", "expert": "#e39a3b",
    "head": "#4f9d69", "sampling": "#8b6bb1", "codec": "#c9b23f", "host": "#c9ced6",
}  # fmt: skip
NAMES = {
    "inputs": "inputs", "trunk": "trunks", "read_back": "router read-back", "dispatch": "dispatch in Python",
    "expert": "experts", "head": "head", "sampling": "sampling", "codec": "codec", "host": "host",
}  # fmt: skip
_MOST_STEPS = 600  # drawn one by one; of a longer generation only these appear


def breakdown_figure(run: Record) -> str:
    """The parts of a step's time."""
    parts = run["parts"]
    total = sum(part["ms_a_step"] for part in parts.values())
    height, x, drawn = 46, 0.0, []
    for name, part in parts.items():
        width = part["share"] * WIDTH
        title = tag("title", f"{NAMES[name]}: {part['ms_a_step']:.3f} ms a step, {100 * part['share']:.1f} %")
        drawn.append(tag("rect", title, x=x, y=0, width=width, height=height, fill=COLOURS[name]))
        if part["share"] > 0.045:
            drawn.append(text(x + width / 2, 28, f"{100 * part['share']:.0f} %", class_="on-bar"))
        x += width
    return figure_box(
        f"A step takes {total:.2f} ms on average, codec and host included",
        legend({NAMES[name]: COLOURS[name] for name in parts})
        + figure(drawn, height, "shares of a step")
        + table(PART_COLUMNS, part_rows(run)),
        f"Decoding, all repetitions; ± is two standard errors over them. The parts add up to "
        f"{100 * run['coverage']:.1f} % of the wall time. The floor is the bytes that a part must read over "
        f"{run['floor']['read_bytes_per_s'] / 1e9:.1f} GB/s, the speed of reading 256 MB from memory, measured in "
        f"this run. A buffer of the model's size is read at {run['floor']['model_sized_bytes_per_s'] / 1e9:.1f} GB/s: "
        "more where the processor's caches hold a part of it, and then a step can be faster than its floor.",
    )


def timeline_figure(run: Record, timeline: Record) -> str:
    """Every step of the last repetition of one request, and its parts where they were recorded."""
    steps, codec = (np.array(timeline[name][:_MOST_STEPS]) for name in ("step_ms", "codec_ms"))
    recorded = [index for index in timeline["recorded"] if index < len(steps)]
    parts = {name: values[: len(recorded)] for name, values in timeline["parts"].items()}
    top = 1.25 * float(np.percentile(steps, 99))
    axes = stacked_steps(parts, COLOURS, recorded, len(steps), top=top)
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
    return figure_box(
        f"Step by step: {timeline['task']}",
        legend({NAMES[name]: COLOURS[name] for name in parts}) + figure(axes.parts, axes.height, "time of each step"),
        f"“{timeline['caption']}”, last repetition. The line shows every step. Colours show the parts of steps that "
        "were recorded call by call, each drawn up to the next one. A triangle marks a step after which a chunk was "
        "decoded, a dot a step that took longer than the chart is high.",
    )


def histogram_figure(run: Record) -> str:
    """The distribution of the steps' times."""
    steps = np.concatenate([generation["step_ms"] for generation in run["generations"]])
    high = max(float(np.percentile(steps, 99.5)), float(steps.min()) + 1e-3)
    counts, edges = np.histogram(np.minimum(steps, high), bins=60, range=(float(steps.min()), high))
    axes = Axes(x0=float(edges[0]), x1=high, top=1.15 * float(counts.max()), height=220, labels=("ms a step", "steps"))
    axes.parts += bars(axes, edges.tolist(), counts.tolist(), "ms")
    for row, rank in enumerate(("p50", "p90", "p99")):
        value = run["step"][f"{rank}_ms"]
        axes.vertical(min(value, high), f"{rank} {value:.2f} ms", row)
    return figure_box(
        "How long a step takes",
        figure(axes.parts, axes.height, "histogram of step times"),
        f"{len(steps)} steps of all repetitions. The last bar holds the slowest half per cent, up to "
        f"{steps.max():.1f} ms. p50 is the median.",
    )


def layers_figure(run: Record) -> str:
    """Time and experts of each layer."""
    names = ("trunk", "read_back", "dispatch", "expert")
    rows = {f"layer {layer['layer']}": {name: layer[f"{name}_ms"] for name in names} for layer in run["layers"]}
    drawn = legend({NAMES[name]: COLOURS[name] for name in names}) + stacked_rows(rows, COLOURS, unit="mean ms a step")
    return figure_box(
        "Layer by layer",
        drawn + table(LAYER_COLUMNS, layer_rows(run)),
        "Means ± two standard errors over repetitions: milliseconds a step, megabytes that a step touches. Launched "
        "counts the union over rows, picked what one row asks for.",
    )


def experts_figure(run: Record) -> str:
    """The frequency of each expert by layer and domain, and the number of experts per step."""
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
    return figure_box(
        "Experts by domain", f'<div class="maps">{"".join(maps)}</div>', f"Rows are layers. Over all layers: {words}."
    )


def memory_figure(run: Record) -> str:
    """Resident memory over time; empty where the system does not report it."""
    memory = run["memory"]
    if memory is None or len(memory["curve"]) < 2:
        return ""
    xs = [reading["at_s"] for reading in memory["curve"]]
    anonymous, file = (
        [reading[f"{kind}_bytes"] / 1e6 for reading in memory["curve"]] for kind in ("anonymous", "file")
    )
    both = [first + second for first, second in zip(anonymous, file, strict=True)]
    top = 1.15 * max(*both, memory["peak_bytes"] / 1e6)
    axes = Axes(x0=0, x1=xs[-1], top=top, height=200, labels=("seconds", "MB"))
    axes.parts.append(area(axes, xs, [0.0] * len(xs), anonymous, COLOURS["trunk"], "anonymous"))
    axes.parts.append(area(axes, xs, anonymous, both, COLOURS["read_back"], "file-backed"))
    axes.horizontal(memory["peak_bytes"] / 1e6, f"peak {memory['peak_bytes'] / 1e6:.0f} MB")
    drawn = legend({"anonymous": COLOURS["trunk"], "file-backed": COLOURS["read_back"]})
    return figure_box(
        "Memory",
        drawn + figure(axes.parts, axes.height, "resident memory over time"),
        "Resident memory of the process: opening, loading, warming up, first repetition. File-backed pages can be "
        "dropped and read again.",
    )


def kernels_figure(run: Record) -> str:
    """The results of the engine's own profiler; empty where it was off."""
    if "kernels" not in run:
        return ""
    return figure_box(
        "Kernels",
        table(KERNEL_COLUMNS, kernel_rows(run)),
        "The engine's own profiler, in a run of its own: it slows every kernel, so compare shares, not times.",
    )
