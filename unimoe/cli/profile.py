"""`unimoe profile`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NoReturn

import click

from unimoe.cli.bundle_argument import BUNDLE
from unimoe.cli.options import (
    Command,
    Counts,
    Number,
    Size,
    Whole,
    engine_options,
    json_option,
    write_json,
)
from unimoe.cli.progress import progress_bar
from unimoe.cli.tables import Column, as_word, columns, print_next, print_prose, print_table
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.synthesis.chunks import ChunkSchedule
from unimoe_tools.output import require_writable, write_output
from unimoe_tools.parity.ratios import UNDECIDED
from unimoe_tools.profiling import report as reports
from unimoe_tools.profiling.compare import Rounds, compare_reports, run_against
from unimoe_tools.profiling.page import as_html, comparison_as_html
from unimoe_tools.profiling.sweep import profile as measure
from unimoe_tools.profiling.workload import Setting, make_requests
from unimoe_tools.units import percent

NOISE_EXIT_CODE = 3
_FILE = click.Path(path_type=Path, dir_okay=False)
_FORMATS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "md": reports.as_markdown, "csv": reports.as_csv, "jsonl": reports.as_jsonl,
}  # fmt: skip
_STYLES = {"slower": "red", "faster": "green", "too noisy to tell": "yellow", "stopped too early": "yellow"}


@click.command(cls=Command)
@click.argument("bundles", metavar="BUNDLE…", nargs=-1, type=BUNDLE)
@click.option(
    "--against",
    type=BUNDLE,
    help="Run BUNDLE and this one in turns and compare. Of two threads or rows, the second is this one's.",
)
@click.option("--compare", nargs=2, type=_FILE, help="Compare two profiles that --json wrote: before, after.")
@click.option("--threads", type=Counts(), help="Threads of the engine; a list is swept. [default: all cores]")
@click.option("--rows", type=Counts(), default=(2,), help="Model rows a step, two a guided utterance. [default: 2]")
@click.option("--task", "tasks", multiple=True, help="Task to run; may be repeated. [default: all of the bundle's]")
@click.option("--text", "texts", multiple=True, help="Text to make, may be repeated. [default: the bundle's examples]")
@click.option("--voice", default="", help="As for `unimoe synth`.")
@click.option("--voice-text", default="", help="As for `unimoe synth`.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the first round.")
@click.option("--steps", type=Whole(1), help="Run exactly this many decode steps. [default: until the model ends]")
@click.option(
    "--chunks", "--chunk-frames", type=Counts(), help="Frames of each chunk, the last repeated. [default: as synth]"
)
@click.option("--warmup", type=Whole(0), default=1, show_default=True, help="Rounds before the measurement.")
@click.option("--repetitions", type=Whole(1), help="Measured rounds. [default: 5; with --against at most 40]")
@click.option(
    "--max-minutes",
    type=Number(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="With --against: stop after this time and compare the rounds so far.",
)
@engine_options
@click.option("--memory-budget", type=Size(), help="Memory for loaded experts, such as 300MB. [default: no limit]")
@click.option("--kernels", is_flag=True, help="Measure once more with the engine's own profiler on.")
@click.option(
    "-o", "--output", "output", type=click.Choice(list(_FORMATS)), help="Print this format instead of tables."
)
@json_option
@click.option("--csv", "csv_path", type=_FILE, help="Write one row for each setting here.")
@click.option("--markdown", "markdown_path", type=_FILE, help="Write the tables here.")
@click.option("--trace", "trace_path", type=_FILE, help="Write a Chrome trace here (open it at ui.perfetto.dev).")
@click.option("--html", "html_path", type=_FILE, help="Write one page with plots here.")
@click.option("--strict-noise", is_flag=True, help=f"Exit with code {NOISE_EXIT_CODE} where the machine was too busy.")
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
    max_minutes: float,
    backend: str,
    target: str | None,
    providers: tuple[str, ...] | None,
    memory_budget: int | None,
    kernels: bool,
    output: str | None,
    json_to: str | None,
    csv_path: Path | None,
    markdown_path: Path | None,
    trace_path: Path | None,
    html_path: Path | None,
    strict_noise: bool,
) -> None:
    """Measure where a BUNDLE's time goes: latency, its parts, layer by layer, and its distance from the floor.

    Every combination of bundle, threads and rows is measured in a separate process. A comparison (--against or
    --compare) ends with exit code 1 if something is slower.
    """
    if (against is not None or compare is not None) and any((csv_path, markdown_path, trace_path, output, kernels)):
        raise click.UsageError("a comparison is written by --json and --html alone")
    if (compare is None) != bool(bundles) or (compare and against):
        raise click.UsageError("give bundles, or --compare BEFORE AFTER without any")
    for path in (csv_path, markdown_path, trace_path, html_path):
        if path is not None:
            require_writable(path)
    if compare is not None:
        _finish_comparison(compare_reports(*compare), json_to, html_path, strict_noise)

    def setting(bundle: Path, num_threads: int | None, num_rows: int) -> Setting:
        requests = make_requests(
            open_bundle(bundle), tasks=tasks, texts=texts, voice=voice, voice_text=voice_text, seed=seed
        )
        return Setting(
            bundle=str(bundle), requests=requests, threads=num_threads, rows=num_rows, steps=steps,
            chunk_frames=chunks or ChunkSchedule().frames, backend=backend, target=target, providers=providers,
            memory_budget_bytes=memory_budget,
        )  # fmt: skip

    all_threads: tuple[int | None, ...] = threads or (None,)
    if against is not None:
        if len(bundles) > 1 or max(len(all_threads), len(rows)) > 2:
            raise click.UsageError("--against takes one BUNDLE, and at most two threads and two rows")
        rounds = Rounds(most=repetitions or Rounds.most, max_minutes=max_minutes, warmup=warmup)
        ours, theirs = setting(bundles[0], all_threads[0], rows[0]), setting(against, all_threads[-1], rows[-1])
        with progress_bar() as progress:
            result = run_against(
                ours, theirs, rounds, progress=progress, announce=lambda line: progress.say(f"unimoe: {line}")
            )
        _finish_comparison([result], json_to, html_path, strict_noise)
    with progress_bar() as progress:
        report, events = measure(
            [setting(*point) for point in product(bundles, all_threads, rows)], warmup=warmup,
            repetitions=repetitions or 5, kernels=kernels, trace=trace_path is not None, progress=progress,
        )  # fmt: skip
    trace = {"traceEvents": events, "displayTimeUnit": "ms"}
    for path, write, value in (
        (csv_path, reports.as_csv, report),
        (markdown_path, reports.as_markdown, report),
        (trace_path, reports.as_json, trace),
        (html_path, as_html, report),
    ):
        if path is not None:
            write_output(path, write(value))
    if not write_json(report, json_to):
        if output is not None:
            click.echo(_FORMATS[output](report), nl=False)
        else:
            print_report(report)
            _print_end(bundles, json_to, html_path)
    if strict_noise and reports.is_noisy(report):
        sys.exit(NOISE_EXIT_CODE)


def print_report(report: Mapping[str, Any]) -> None:
    """The machine, the settings side by side, and each one's parts and layers."""
    print_prose(reports.machine_line(report))
    rows = [reports.flat(run) for run in report["runs"]]
    heads = ["\n".join((row["bundle"], row["precision"], *reports.setting_line(row))) for row in rows]
    settings = [Column(title=""), *(Column(title=head, right=True) for head in heads)]
    print_table(settings, reports.figure_rows(rows), title="settings")
    for run, row in zip(report["runs"], rows, strict=True):
        title = f"{row['bundle']}, {', '.join(reports.setting_line(row))}: parts of a step"
        print_table(columns(*reports.PART_COLUMNS), reports.part_rows(run), title=title)
        layer_titles = (title.replace(", ", ",\n") for title in reports.LAYER_COLUMNS)
        print_table(columns(*layer_titles), reports.layer_rows(run), title="layers")
        if "kernels" in run:
            kernel_columns = columns(*reports.KERNEL_COLUMNS, left=("operator",))
            print_table(kernel_columns, reports.kernel_rows(run), title="kernels")
        click.echo()
        _print_notes(run["notes"])


def _print_end(bundles: Sequence[Path], json_to: str | None, html_path: Path | None) -> None:
    """The place of the page, and what to do next: with a kept profile, how to compare it with a later one."""
    if html_path is not None:
        click.echo(f"page: {html_path}")
    names = " ".join(map(as_word, bundles))
    if json_to is None:
        print_next(f"`unimoe profile {names} --json before.json --html page.html` keeps it, with a page of plots")
    else:
        print_next(
            f"after a change: `unimoe profile {names} --json after.json`, with the same options",
            f"`unimoe profile --compare {as_word(json_to)} after.json`",
        )


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print_prose(note, indent="  ", fg="yellow" if note.startswith("WARNING") else None)


def _finish_comparison(
    comparisons: Sequence[Mapping[str, Any]], json_to: str | None, html_path: Path | None, strict_noise: bool
) -> NoReturn:
    """Print and write comparisons, and exit: with code 1 if something is slower, with 3 if noise hides it."""
    if html_path is not None:
        write_output(html_path, comparison_as_html(comparisons))
    if not write_json({"comparisons": list(comparisons)}, json_to):
        for comparison in comparisons:
            titles = ("", "reference", "candidate", "ratio", f"{percent(comparison['confidence'], 0)} interval", "")
            rows = [
                [click.style(cell, fg=_STYLES.get(row[-1])) for cell in row]
                for row in reports.comparison_rows(comparison)
            ]
            title = f"{comparison['candidate']} against {comparison['reference']}"
            table = [Column(title=name, right=0 < at < 5, prose=at == 5) for at, name in enumerate(titles)]
            print_table(table, rows, title=title)
            _print_notes(comparison["notes"])
        if html_path is not None:
            click.echo(f"page: {html_path}")
    if any(comparison["slower"] for comparison in comparisons):
        sys.exit(1)
    unclear = any(one["verdict"] in UNDECIDED for each in comparisons for one in each["measures"])
    sys.exit(NOISE_EXIT_CODE if strict_noise and unclear else 0)
