"""Tables of `expert_residency`: ways to keep an expert, and memory budgets."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from . import markdown


def tables(
    name: str, kept: list[dict[str, Any]], tried: list[dict[str, Any]]
) -> list[tuple[str, list[str], list[list[str]]]]:
    ways_rows = [
        [
            row["way"], f"{row['load_ms']:.2f}", f"{row['run_us']:.0f}", f"{1e3 * row['load_ms'] / row['run_us']:.1f}",
            f"{row['weights_kb']:.0f}", f"{row['anonymous_kb']:.0f}", f"{row['mapped_kb']:.0f}",
            f"{100 * row['same_bits']:.0f} %",
        ]
        for row in kept
    ]  # fmt: skip
    budget_rows = [
        [
            f"{row['share']:g}", f"{row['budget_bytes'] / 1e6:.2f}", "yes" if row["same"] else "NO",
            f"{row['slowdown_cpu']:.2f}", f"{row['slowdown']:.2f}", f"{100 * row['hit_rate']:.0f} %",
            f"{row['misses_per_step']:.2f}", f"{row['peak_bytes'] / 1e6:.2f}",
            f"{row['anonymous_kb'] * 1024 / 1e6:.1f} ({row['anonymous_over_empty_kb'] * 1024 / 1e6:+.1f})",
            f"{row['mapped_kb'] * 1024 / 1e6:.1f}", f"{row['loaded_ahead']}",
            f"{100 * row['prefetch_accuracy']:.0f} %" if row["loaded_ahead"] else "",
        ]
        for row in tried
    ]  # fmt: skip
    step = f"{tried[0]['step_bytes_p95'] / 1e6:.2f} MB a step at p95, {tried[0]['expert_bytes'] / 1e6:.2f} MB an expert"
    return [
        (
            f"{name}: one expert, two rows, CPU time",
            ["way", "load ms", "run µs", "load / run", "weights KB", "anonymous KB", "mapped KB", "same bits"],
            ways_rows,
        ),
        (
            f"{name}: budgets; {step}",
            ["of p95", "MB", "same codes", "slowdown, CPU", "slowdown, wall", "hits", "misses a step", "peak MB",
             "process's anonymous MB (over a budget of 0)", "mapped MB", "ahead", "of these used"],
            budget_rows,
        ),
    ]  # fmt: skip


def print_tables(console: Console, found: list[tuple[str, list[str], list[list[str]]]]) -> list[str]:
    """Print tables of (title, columns, rows). Returns them as lines of Markdown."""
    lines = []
    for title, columns, rows in found:
        table = Table(*columns, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        lines += [f"**{title}**", "", *markdown.table(columns, rows), ""]
    return lines
