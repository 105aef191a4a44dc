"""`unimoe build`: compiles a bundle's engines for one or more targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from unimoe.cli.bundle_argument import BUNDLE
from unimoe.cli.options import PROCESSES, Command, Counts, Whole, json_option, write_json
from unimoe.cli.progress import progress_bar
from unimoe.cli.tables import as_word, print_next
from unimoe_export.engines.building import BuildResult, build_engines
from unimoe_export.engines.sizes import Limits, default_capacity
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.hardware.targets import FLAVOURS
from unimoe_tools.units import count, duration, size


@click.command(cls=Command)
@click.argument("bundle", type=BUNDLE)
@click.option(
    "--target",
    required=True,
    help="Rows of the table of targets or compute capabilities (sm86), separated by commas. Those joined by + share "
    "one set of engines.",
)
@click.option("--flavour", type=click.Choice(FLAVOURS), help="The TensorRT to build with. [default: the target's]")
@click.option(
    "--cache-capacity",
    type=Counts(),
    help="Positions in the cache; several values are separated by commas. [default: enough for the longest utterance]",
)
@click.option(
    "--rows", type=Whole(1), default=2, show_default=True, help="Largest number of model rows; guidance takes two."
)
@click.option(
    "--prefill-chunk", type=Whole(1), default=64, show_default=True, help="Largest number of positions in a pass."
)
@click.option("--jobs", type=PROCESSES, help="Builders that run at the same time. [default: one for each core]")
@json_option
def build(
    bundle: Path,
    target: str,
    flavour: str | None,
    cache_capacity: tuple[int, ...] | None,
    rows: int,
    prefill_chunk: int,
    jobs: int | None,
    json_to: str | None,
) -> None:
    """Compile the graphs of BUNDLE for a GPU, into BUNDLE/engines/TARGET.

    TensorRT-RTX builds ahead of time, on any machine; TensorRT builds on the device. Engines that are up to date are
    kept. After an interruption the same command resumes. A log lies beside each engine.
    """
    opened = open_bundle(bundle)
    capacities = tuple(sorted(set(cache_capacity))) if cache_capacity else (default_capacity(opened),)
    if (needed := default_capacity(opened)) > capacities[-1]:
        click.echo(
            f"unimoe: warning: answers that need more than {capacities[-1]} positions will fail on the device; the "
            f"longest that the bundle's settings allow takes up to {needed} (--cache-capacity {needed})",
            err=True,
        )
    with progress_bar(kept="finished engines are kept, and the same command resumes") as progress:
        results = build_engines(
            opened, target.split(","), flavour=flavour, num_workers=jobs,
            limits=Limits(rows=rows, positions=prefill_chunk, cache_capacities=capacities),
            progress=lambda done, total, name: progress(name, done, total),
        )  # fmt: skip
    if write_json([asdict(result) for result in results], json_to):
        return
    for result in results:
        click.echo(summary(result))
    print_next(*_next_steps(bundle, results[0]))


def _next_steps(bundle: Path, result: BuildResult) -> Sequence[str]:
    """What follows a build: TensorRT builds on the device itself, TensorRT-RTX for another machine."""
    verify = f"`unimoe verify {{}} --backend tensorrt --target {result.target}"
    if result.flavour == "tensorrt":
        return [verify.format(as_word(bundle)) + "`"]
    packed = f"{bundle.name}-{result.target}.pack"
    return [
        f"`unimoe pack {as_word(bundle)} --target {result.target} --with-graphs -o {as_word(packed)}`",
        f"on the device: `unimoe unpack {as_word(packed)} {as_word(bundle.name)}`",
        f"{verify.format(as_word(bundle.name))} --trust-engines`",
    ]


def summary(result: BuildResult) -> str:
    """What was built, its size and time; the slowest engines, the fallbacks, and the graphs without an engine."""
    made = f"{result.num_built} built, {result.num_kept} up to date"
    lines = [
        f"{result.path}: {made}; {size(result.num_bytes)}, {duration(result.seconds)} "
        f"({result.flavour} {result.engine_version})"
    ]
    if result.slowest:
        lines.append("slowest: " + ", ".join(f"{name} {duration(seconds)}" for name, seconds in result.slowest))
    lines += [f"{count(number, 'engine')}: {note}" for note, number in result.fallbacks.items()]
    lines += [f"no engine for {graph}, it runs on the CPU: {why}" for graph, why in result.unbuilt.items()]
    return "\n".join(lines)
