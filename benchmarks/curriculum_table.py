"""Table and plot of `benchmarks.curriculum`'s runs: mean, smallest and largest value over the seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks import markdown

NAMES = {
    "specialists": "specialists (two dense models)",
    "dense": "joint, dense",
    "moe": "joint, MoE (Top-P, null)",
    "top-k": "joint, MoE (Top-2)",
    "no-null": "joint, MoE (Top-P, no null)",
    "curriculum": "three-stage curriculum (Top-P, null)",
    "balanced": "control: that MoE from scratch on the balanced set",
}
Value = Callable[[dict[str, Any]], float]
COLUMNS: dict[str, tuple[Value, str]] = {
    "loss speech": (lambda run: run["loss"]["speech"], "{:.3f}"),
    "loss music": (lambda run: run["loss"]["music"], "{:.3f}"),
    "WER digits": (lambda run: 100 * run["audio"]["summary"]["digits_wer"], "{:.1f}"),
    "WER commands": (lambda run: 100 * run["audio"]["summary"]["commands_wer"], "{:.1f}"),
    "notes exact": (lambda run: 100 * run["audio"]["summary"]["notes_exact"], "{:.1f}"),
    "FFN active, thousands": (lambda run: run["active_ffn_parameters_a_layer"] / 1000, "{:.1f}"),
}


def write_results(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Write results with only those figures of their audio that the table needs."""
    for result in results:
        result["audio"] = {name: result["audio"][name] for name in ("summary", "voices", "instruments")}
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def write_table(results: Sequence[dict[str, Any]], page: Path) -> str:
    """Write Markdown between the page's two marks: a row for each variant, numbers as mean (smallest … largest)."""
    return _write(_tables(results), page, "runs")


def write_long_tables(results: Sequence[dict[str, Any]], page: Path) -> str:
    """Write the tables of `benchmarks.curriculum_long` between their marks, with held-out figures along the way."""
    short = {"curriculum": "curriculum", "balanced": "control"}
    found = {name: run["stages"] for key, name in short.items() for run in results if run["variant"] == key}
    columns = {"loss speech": ("loss_speech", "{:.3f}", 1.0), "loss music": ("loss_music", "{:.3f}", 1.0)}
    columns |= {"picked": ("experts_picked", "{:.2f}", 1.0), "null, %": ("null_share", "{:.1f}", 100.0)}
    rows = []
    for share in sorted({share for stages in found.values() for share in stages}, key=int):
        cells = [f"{share} %"]
        for stages in found.values():
            here = stages.get(share, {})
            cells += [shown.format(scale * here[key]) if key in here else "" for key, shown, scale in columns.values()]
        rows.append(cells)
    titles = [f"{name}: {title}" for name in found for title in columns]
    over_time = markdown.table(["positions", *titles], rows, numbers=True)
    return _write([*_tables(results), "", *over_time], page, "long runs")


def _tables(results: Sequence[dict[str, Any]]) -> list[str]:
    rows = []
    for variant, name in NAMES.items():
        runs = [result for result in results if result["variant"] == variant]
        if runs:
            cells = (_cell([value(run) for run in runs], shown) for value, shown in COLUMNS.values())
            rows.append([name, str(len(runs)), *cells])
    lines = markdown.table(["", "seeds", *COLUMNS], rows, numbers=True)
    return [*lines, "", *_baselines(results), "", *_routing(results)]


def _write(lines: Sequence[str], page: Path, name: str) -> str:
    """Write lines between the page's marks of that name. Returns them as text."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    text = "\n".join(lines).rstrip() + "\n"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    page.write_text(f"{before}{begin}\n{text}{end}{after}", encoding="utf-8")
    return text


def _cell(values: Sequence[float], shown: str) -> str:
    if len(values) == 1:
        return shown.format(values[0])
    low, middle, high = (shown.format(value) for value in (min(values), mean(values), max(values)))
    return f"{middle} ({low} … {high})"


def _baselines(results: Sequence[dict[str, Any]]) -> list[str]:
    """The scores of the recordings themselves and of the rotated baseline, over all runs."""
    if not results:
        return []
    kinds: dict[str, dict[str, list[float]]] = {}
    notes: dict[str, list[float]] = {}
    for run in results:
        for voice in run["audio"]["voices"].values():
            for kind, figures in voice["words"].items():
                for name in ("original_wer", "rotated_wer"):
                    kinds.setdefault(kind, {}).setdefault(name, []).append(100 * figures[name])
        for figures in run["audio"]["instruments"].values():
            for name in ("original_notes_exact", "rotated_notes_exact"):
                notes.setdefault(name, []).append(100 * figures[name])
    words = [
        f"{kind} {mean(found['original_wer']):.1f} and {mean(found['rotated_wer']):.1f}"
        for kind, found in kinds.items()
    ]
    return [
        f"The recordings themselves, and rotated references: WER of {', '.join(words)}; notes "
        f"{mean(notes['original_notes_exact']):.1f} and {mean(notes['rotated_notes_exact']):.1f}."
    ]


def _routing(results: Sequence[dict[str, Any]]) -> list[str]:
    columns = {
        "experts picked": ("experts_picked", "{:.2f}", 1.0),
        "deviation": ("experts_picked_deviation", "{:.2f}", 1.0),
        "null share, %": ("null_share", "{:.1f}", 100.0),
        "smallest load, %": ("load_smallest", "{:.1f}", 100.0),
        "largest load, %": ("load_largest", "{:.1f}", 100.0),
        "distance of speech and music": ("domain_distance", "{:.2f}", 1.0),
        "p": ("domain_distance_by_chance", "{:.3f}", 1.0),
    }
    rows = []
    for variant, name in NAMES.items():
        runs = [run for run in results if run["variant"] == variant and "routing" in run]
        if runs:
            cells = (
                _cell([scale * run["routing"][key] for run in runs], shown) for key, shown, scale in columns.values()
            )
            rows.append([name, *cells])
    return markdown.table(["routing", *columns], rows, numbers=True)


def write_plot(results: Sequence[dict[str, Any]], path: Path) -> None:
    """One panel for each figure: a dot for each seed, a bar at the mean."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    shown = list(COLUMNS)[:5]
    better = {"notes exact": "more is better"}
    variants = [variant for variant in NAMES if any(run["variant"] == variant for run in results)]
    figure, axes = pyplot.subplots(1, len(shown), figsize=(14, 3), sharey=True, layout="constrained")
    for axis, column in zip(axes, shown, strict=True):
        value = COLUMNS[column][0]
        for row, variant in enumerate(variants):
            found = [value(run) for run in results if run["variant"] == variant]
            colour = "#c0392b" if variant == "curriculum" else "#34495e"
            axis.plot(found, [row] * len(found), "o", color=colour, markersize=5, alpha=0.8)
            axis.plot([mean(found)] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2)
        axis.set_title(column if column.startswith("loss") else f"{column}, %", fontsize=10)
        axis.set_xlabel(better.get(column, "less is better"), fontsize=8)
        axis.grid(axis="x", alpha=0.3)
        axis.tick_params(labelsize=8)
    axes[0].set_yticks(range(len(variants)), [NAMES[variant] for variant in variants])
    axes[0].invert_yaxis()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
