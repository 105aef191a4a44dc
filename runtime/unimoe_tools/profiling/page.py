"""One page with all results of a profile or a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unimoe_tools.pages.charts import line, ratio_intervals
from unimoe_tools.pages.svg import Axes, figure, legend
from unimoe_tools.pages.template import cards, figure_box, notes, page, section, table, verdict
from unimoe_tools.parity.ratios import MARGIN, UNDECIDED
from unimoe_tools.profiling.page_figures import (
    breakdown_figure,
    experts_figure,
    histogram_figure,
    kernels_figure,
    layers_figure,
    memory_figure,
    timeline_figure,
)
from unimoe_tools.profiling.report import COLUMNS, comparison_rows, figure_rows, flat, machine_line, setting_line, shown
from unimoe_tools.units import number, percent, size

Record = Mapping[str, Any]

_LINES = {"step, median": "#3f6fb5", "step, p90": "#e39a3b", "first audio (TTFA), median": "#4f9d69"}
_VERDICTS = {
    "slower": "#c8503f", "faster": "#4f9d69", "no difference": "#5d6978", "too noisy to tell": "#e0a526",
    "stopped too early": "#e0a526",
}  # fmt: skip


def as_html(report: Record) -> str:
    """The page of a profile."""
    runs = report["runs"]
    names = ", ".join(dict.fromkeys(run["bundle"]["name"] for run in runs))
    many = len(runs) > 1
    body = [
        _settings(runs) if many else "",
        *(_run(run, many=many) for run in runs),
        _machine(report["machine"]),
    ]
    return page(f"Where the time goes: {names}", machine_line(report), body)


def comparison_as_html(comparisons: Sequence[Record]) -> str:
    """The page of comparisons: first the verdict, then ratios with their intervals."""
    slower = any(one["slower"] for one in comparisons)
    verdicts = {row["verdict"] for one in comparisons for row in one["measures"]}
    unclear = verdicts.intersection(UNDECIDED)
    words = "Something is slower." if slower else "Nothing is slower."
    if unclear and not slower:
        words = f"{min(unclear).capitalize()}: see the notes."
    body = [verdict(words, passed=not slower and not unclear)]
    for one in comparisons:
        rows = [
            (COLUMNS[row["measure"]][0], row["ratio"], row["low"], row["high"], _VERDICTS[row["verdict"]])
            for row in one["measures"]
        ]
        heads = ("", "reference", "candidate", "ratio", f"{percent(one['confidence'], 0)} interval", "verdict")
        content = figure_box(
            "How much longer the candidate takes",
            legend({name: colour for name, colour in _VERDICTS.items() if name in verdicts})
            + ratio_intervals(rows, margin=MARGIN)
            + table(heads, comparison_rows(one), words=(5,)),
            f"Medians. A line is the interval of a ratio, a dot the ratio. Differences within the grey band, "
            f"{percent(MARGIN)}, do not count.",
        )
        body.append(section(f"{one['candidate']} against {one['reference']}", notes(one["notes"]), content))
    machines = [machine for one in comparisons for machine in one.get("machines", [one.get("machine")]) if machine]
    body += [_machine(machine) for machine in machines[:1]]
    return page("Which is faster?", f"{comparisons[0]['candidate']} against {comparisons[0]['reference']}", body)


def _settings(runs: Sequence[Record]) -> str:
    rows = [flat(run) for run in runs]
    heads = [" · ".join((row["bundle"], row["precision"], *setting_line(row))) for row in rows]
    return section("All settings", *_sweeps(rows), figure_box("", table(["", *heads], figure_rows(rows))))


def _sweeps(rows: Sequence[Record]) -> Iterator[str]:
    """A chart for each bundle and number of rows measured with several numbers of threads."""
    groups: dict[tuple[str, str, int], list[Record]] = {}
    for row in rows:
        if row["threads"] is not None:
            groups.setdefault((row["bundle"], row["precision"], row["rows"]), []).append(row)
    for (bundle, precision, num_rows), group in groups.items():
        threads = [row["threads"] for row in group]
        if len(set(threads)) < 2:
            continue
        group = sorted(group, key=lambda row: row["threads"])
        drawn = ""
        for fields in (("step_p50_ms", "step_p90_ms"), ("ttfa_ms",)):
            names = list(_LINES)[:2] if len(fields) == 2 else list(_LINES)[2:]
            top = 1.15 * max(row[field] for row in group for field in fields)
            axes = Axes(
                x0=min(threads) - 0.5,
                x1=max(threads) + 0.5,
                top=top,
                height=200,
                labels=("threads", "ms"),
                x_ticks=threads,
            )
            for field, name in zip(fields, names, strict=True):
                points = [row["threads"] for row in group], [row[field] for row in group]
                axes.parts.append(line(axes, *points, _LINES[name], name))
            drawn += legend({name: _LINES[name] for name in names})
            drawn += figure(axes.parts, axes.height, f"{', '.join(names)} over threads")
        title = f"{bundle} · {precision} · {num_rows} rows: how many threads pay"
        yield figure_box(title, drawn, "Milliseconds over the engine's threads; each point is one setting below.")


def _run(run: Record, *, many: bool) -> str:
    row = flat(run)
    title = " · ".join((row["bundle"], row["precision"], *setting_line(row))) if many else ""
    return section(
        title,
        _cards(run, row),
        notes(run["notes"]),
        breakdown_figure(run),
        *(timeline_figure(run, timeline) for timeline in run["timeline"]),
        histogram_figure(run),
        layers_figure(run),
        experts_figure(run),
        memory_figure(run),
        kernels_figure(run),
        class_="run",
    )


def _cards(run: Record, row: Record) -> str:
    """The most important figures."""
    setting, bundle, floor = run["setting"], run["bundle"], run["floor"]
    weights = f"weights {bundle['weight_bytes'] / 1e6:.0f} MB"
    figures = [
        (
            "real-time factor",
            shown(row["rtf"], 3),
            "median; compute seconds for a second of audio, below 1 is faster than real time",
        ),
        (
            "first playable chunk",
            f"{shown(row['ttfa_ms'], 0)} ms",
            f"median from the request, {setting['chunk_frames'][0]} frames; cold {shown(row['cold_ttfa_ms'], 0)} ms",
        ),
        (
            "a step",
            f"{shown(row['step_p50_ms'], 2)} ms",
            "median; " + ", ".join(f"{name} {shown(row[f'step_{name}_ms'], 2)}" for name in ("p90", "p99", "max")),
        ),
        (
            "frames a second",
            shown(row["frames_per_s"], 0),
            f"median; {shown(bundle['frame_rate_hz'], 0)} a second of audio; underruns {shown(row['underruns'], 0)}",
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
    return cards(figures)


def _machine(machine: Record) -> str:
    rows = [_with_unit(name, value) for name, value in machine.items()]
    return section("Machine", figure_box("", table(["", ""], rows)), class_="machine")


def _with_unit(name: str, value: object) -> list[str]:
    """A fact of the machine, with the unit that stands in its name beside its value."""
    words = name.replace("_", " ")
    if not isinstance(value, int | float):
        return [words, "unknown" if value is None else str(value)]
    if words.endswith(" bytes"):
        return [words.removesuffix(" bytes"), size(value)]
    if words.endswith(" mhz"):
        return [words.removesuffix(" mhz"), f"{value:,.0f} MHz"]
    return [words, number(value)]
