"""`unimoe build`: a bundle's engines for one target or several."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from unimoe_export.engines.building import BuildResult, build_engines
from unimoe_export.engines.sizes import Limits, default_capacity
from unimoe_runtime.bundle.engine_sets import FLAVOURS
from unimoe_runtime.bundle.reader import open_bundle


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--target",
    required=True,
    help="Rows of the table of targets or compute capabilities (sm86), with commas; joined by +, one engine for all.",
)
@click.option("--flavour", type=click.Choice(FLAVOURS), help="TensorRT to build with; default: the one that serves it.")
@click.option(
    "--cache-capacity",
    help="Positions that the cache holds, several with commas; default: the longest utterance of the settings.",
)
@click.option("--rows", type=click.IntRange(1), default=2, show_default=True, help="At most; guidance takes two.")
@click.option(
    "--prefill-chunk", type=click.IntRange(1), default=64, show_default=True, help="Positions of a pass at most."
)
@click.option("--jobs", type=click.IntRange(1), help="Builders at work at a time; default: one for each core.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def build(
    bundle: Path,
    target: str,
    flavour: str | None,
    cache_capacity: str | None,
    rows: int,
    prefill_chunk: int,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Compile the graphs of BUNDLE for a GPU, into BUNDLE/engines/TARGET.

    TensorRT-RTX does it ahead of time, on any machine; TensorRT on the device. Engines that are up to date stay, and
    a build that was killed goes on where it stopped. A log lies beside each engine.
    """
    opened = open_bundle(bundle)
    capacities = _numbers(cache_capacity) if cache_capacity else (default_capacity(opened),)
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("build", total=None)

        def show(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=name)

        results = build_engines(
            opened,
            target.split(","),
            flavour=flavour,
            limits=Limits(rows=rows, positions=prefill_chunk, cache_capacities=capacities),
            num_workers=jobs,
            progress=show,
        )
    if as_json:
        click.echo(json.dumps([asdict(result) for result in results], default=str))
        return
    for result in results:
        click.echo(summary(result))


def summary(result: BuildResult) -> str:
    """What was built, how large and how long; the slowest, and what is otherwise than the graphs say."""
    made = f"{result.num_built} built, {result.num_kept} up to date"
    lines = [
        f"{result.path}: {made}; {result.num_bytes / 1e6:.1f} MB, {result.seconds:.1f} s "
        f"({result.flavour} {result.engine_version})"
    ]
    if result.slowest:
        lines.append("slowest: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in result.slowest))
    lines += [f"{count} of the engines: {note}" for note, count in result.fallbacks.items()]
    lines += [f"no engine for {graph}, it runs on the CPU: {why}" for graph, why in result.unbuilt.items()]
    return "\n".join(lines)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise click.BadParameter(f"{text!r}: give numbers, with commas", param_hint="--cache-capacity") from None
