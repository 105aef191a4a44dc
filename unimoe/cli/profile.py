"""`unimoe profile`."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from unimoe.cli.comparing import print_comparison
from unimoe.cli.sizes import BYTES
from unimoe_runtime.backends.factory import BACKENDS
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.synthesis.stream import ChunkSchedule
from unimoe_tools.profiling import report as reports
from unimoe_tools.profiling.page import as_html
from unimoe_tools.profiling.sweep import profile as measure
from unimoe_tools.profiling.versus import MOST_BLOCKS, compare_reports, run_against
from unimoe_tools.profiling.workload import Setting, make_requests


class _Counts(click.ParamType):
    """Whole numbers of 1 and more, separated by commas."""

    name = "N[,N…]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            counts = tuple(int(word) for word in value.split(","))
        except ValueError:
            counts = ()
        if not counts or min(counts) < 1:
            self.fail(f"{value!r} is no list of whole numbers of 1 and more, such as 1,2", param, ctx)
        return counts


_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("bundles", metavar="BUNDLE…", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="Run BUNDLE and this one in turns and compare. Of two threads or rows, the second is this one's.",
)
@click.option("--compare", nargs=2, type=_FILE, help="Compare two profiles that --json wrote: before, after.")
@click.option("--threads", type=_Counts(), help="Threads of the engine; a list is swept. [default: all cores]")
@click.option("--rows", type=_Counts(), default=(2,), help="Model rows a step, two a guided utterance. [default: 2]")
@click.option("--task", "tasks", multiple=True, help="Task to run; may be repeated. [default: all of the bundle's]")
@click.option("--text", "texts", multiple=True, help="Text to make, may be repeated. [default: the bundle's examples]")
@click.option("--voice", default="", help="As for `unimoe synth`.")
@click.option("--voice-text", default="", help="As for `unimoe synth`.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--steps", type=click.IntRange(min=1), help="Decode steps, whatever the model says. [default: its own end]"
)
@click.option("--chunks", type=_Counts(), help="Frames of each chunk, the last repeated. [default: as synth]")
@click.option("--warmup", type=click.IntRange(min=0), default=1, show_default=True, help="Rounds that do not count.")
@click.option(
    "--repetitions",
    type=click.IntRange(min=1),
    help="Rounds that count. [default: 5; with --against at most 40, in fours]",
)
@click.option("--backend", type=click.Choice(BACKENDS), default="onnxruntime", show_default=True)
@click.option("--provider", "providers", multiple=True, help="ONNX Runtime provider, in order of preference.")
@click.option("--memory-budget", type=BYTES, help="What loaded experts may take, such as 300MB. [default: any]")
@click.option("--kernels", is_flag=True, help="Measure once more with the engine's own profiler on.")
@click.option("--json", "json_path", type=_FILE, help="Write everything here.")
@click.option("--csv", "csv_path", type=_FILE, help="Write a row a setting here.")
@click.option("--markdown", "markdown_path", type=_FILE, help="Write the tables here.")
@click.option("--trace", "trace_path", type=_FILE, help="Write a Chrome trace here (open it at ui.perfetto.dev).")
@click.option("--html", "html_path", type=_FILE, help="Write one page with plots here.")
def profile(
    bundles: tuple[Path, ...],
    against: Path | None,
    compare: tuple[Path, Path] | None,
    threads: tuple[int, ...] | None,
    rows: tuple[int, ...],
    tasks: tuple[str, ...],
    texts: tuple[str, ...],
    voice: str,
    voice_text: str,
    seed: int,
    steps: int | None,
    chunks: tuple[int, ...] | None,
    warmup: int,
    repetitions: int | None,
    backend: str,
    providers: tuple[str, ...],
    memory_budget: int | None,
    kernels: bool,
    json_path: Path | None,
    csv_path: Path | None,
    markdown_path: Path | None,
    trace_path: Path | None,
    html_path: Path | None,
) -> None:
    """See where a BUNDLE's time goes: latency, its parts, layer by layer, and how far that is from the floor.

    Every combination of bundle, threads and rows is measured in a process of its own. Comparing, with --against or
    --compare, ends with code 1 where something is slower.
    """
    comparing = against is not None or compare is not None
    if comparing and any((csv_path, markdown_path, trace_path, html_path, kernels)):
        raise click.UsageError("a comparison is written by --json alone")
    if (compare is None) != bool(bundles) or (compare and against):
        raise click.UsageError("give bundles, or --compare BEFORE AFTER without any")
    for path in (json_path, csv_path, markdown_path, trace_path, html_path):
        if path is not None:
            reports.require_writable(path)
    if compare is not None:
        print_comparison(compare_reports(*compare), json_path)
        return

    def setting(bundle: Path, num_threads: int | None, num_rows: int) -> Setting:
        requests = make_requests(
            open_bundle(bundle), tasks=tasks, texts=texts, voice=voice, voice_text=voice_text, seed=seed
        )
        return Setting(
            bundle=str(bundle), requests=requests, threads=num_threads, rows=num_rows, steps=steps,
            chunk_frames=chunks or ChunkSchedule().frames, backend=backend, providers=providers or None,
            memory_budget_bytes=memory_budget,
        )  # fmt: skip

    all_threads: tuple[int | None, ...] = threads or (None,)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("round {task.completed}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("opening", total=None)

        def progress(label: str, done: int, total: int) -> None:
            bar.update(task, description=label, completed=done, total=total)

        if against is not None:
            if len(bundles) > 1 or max(len(all_threads), len(rows)) > 2:
                raise click.UsageError("--against takes one BUNDLE, and at most two threads and two rows")
            result = run_against(
                setting(bundles[0], all_threads[0], rows[0]), setting(against, all_threads[-1], rows[-1]),
                warmup=warmup, blocks=repetitions or MOST_BLOCKS, progress=progress,
            )  # fmt: skip
        else:
            report, events = measure(
                [setting(*point) for point in product(bundles, all_threads, rows)],
                warmup=warmup, repetitions=repetitions or 5, kernels=kernels, trace=trace_path is not None,
                progress=progress,
            )  # fmt: skip
    if against is not None:
        print_comparison([result], json_path)
        return
    for target, text in (
        (json_path, lambda: reports.as_json(report)),
        (csv_path, lambda: reports.as_csv(report)),
        (markdown_path, lambda: reports.as_markdown(report)),
        (trace_path, lambda: reports.as_json({"traceEvents": events, "displayTimeUnit": "ms"})),
        (html_path, lambda: as_html(report)),
    ):
        if target is not None:
            reports.write_output(target, text())
    print_report(report, Console())


def print_report(report: dict[str, Any], console: Console) -> None:
    """The machine, the settings side by side, and each one's parts and layers."""
    console.print(reports.machine_line(report), highlight=False)
    rows = [reports.flat(run) for run in report["runs"]]
    table = Table(box=None, title="\nsettings", title_justify="left")
    table.add_column("")
    for row in rows:
        table.add_column("\n".join((row["bundle"], row["precision"], *reports.setting_line(row))), justify="right")
    for name, (title, digits) in reports.COLUMNS.items():
        table.add_row(title, *(reports.shown(row[name], digits) for row in rows))
    console.print(table)
    for run, row in zip(report["runs"], rows, strict=True):
        title = f"\n{row['bundle']}, {', '.join(reports.setting_line(row))}: parts of a step"
        _print_table(
            console, title, ("part", "ms a step", "share", "MB", "floor ms", "× floor"), reports.part_rows(run)
        )
        _print_table(console, "\nlayers", reports.LAYER_COLUMNS, reports.layer_rows(run))
        if "kernels" in run:
            _print_table(console, "\nkernels", reports.KERNEL_COLUMNS, reports.kernel_rows(run))
        for note in run["notes"]:
            console.print(note, highlight=False, style="yellow" if note.startswith("WARNING") else None)


def _print_table(console: Console, title: str, columns: tuple[str, ...], rows: list[list[str]]) -> None:
    table = Table(box=None, title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
