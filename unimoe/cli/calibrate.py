"""`unimoe calibrate`: a float32 bundle into a quantized one."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from unimoe_calibration.cache import default_cache_dir
from unimoe_calibration.calibration import HEAT_MAP, PARETO, CalibrationResult, calibrate
from unimoe_calibration.memory import return_large_blocks
from unimoe_calibration.search import Mixture
from unimoe_calibration.settings import FALLBACKS, METHODS, SCHEMES, Settings

_COSTLIEST = 10


@click.command("calibrate")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--target", default="cpu", show_default=True, help="Where it will run: a row of the table of targets.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Texts and recordings: JSON lines, or a folder of audio with .txt files. [default: the bundle's own]",
)
@click.option("--scheme", type=click.Choice(SCHEMES), help="Widths of weights and activations. [default: the target's]")
@click.option("--method", type=click.Choice(METHODS), default="auto", show_default=True, help="How ranges are found.")
@click.option("--floor", type=int, default=512, show_default=True, help="Tokens that every expert should receive.")
@click.option("--strict", is_flag=True, help="Fail where an expert stays below the floor.")
@click.option(
    "--fallback",
    type=click.Choice(FALLBACKS),
    default="weight-only",
    show_default=True,
    help="What an expert below the floor gets: its weights alone quantized, ranges of the nearest rows, or float.",
)
@click.option("--max-bytes", type=int, help="The language model's bytes, at most.")
@click.option("--max-latency-ms", type=float, help="Milliseconds a decode step, at most.")
@click.option("--max-loss", type=float, help="Mean divergence of the logits, at most.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where statistics are kept. [default: the user's cache]")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides which data are drawn first."
)
@click.option("--force", is_flag=True, help="Replace a bundle that is there already.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def calibrate_command(
    bundle: Path,
    out: Path,
    target: str,
    data: Path | None,
    scheme: str | None,
    method: str,
    floor: int,
    strict: bool,
    fallback: str,
    max_bytes: int | None,
    max_latency_ms: float | None,
    max_loss: float | None,
    cache: Path | None,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Quantize BUNDLE (float32) for a target into the bundle OUT.

    The bundle reads the data while the inputs of its products are watched, until every expert has received enough
    tokens. Routers, norms, the residual and the codec stay float32. Needs no torch.
    """
    return_large_blocks()
    settings = Settings(
        target=target, scheme=scheme, method=method, floor=floor, strict=strict, fallback=fallback, seed=seed,
        max_bytes=max_bytes, max_latency_ms=max_latency_ms, max_loss=max_loss,
    )  # fmt: skip
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("calibrate", total=None)
        result = calibrate(
            bundle, out, settings, data=data, cache_dir=cache or default_cache_dir(), replace=force,
            progress=lambda what, done, total: bar.update(task, completed=done, total=total, description=what),
        )  # fmt: skip
    for warning in result.warnings:
        click.echo(f"unimoe: warning: {warning}", err=True)
    if as_json:
        click.echo(json.dumps(result.figures(), indent=1))
        return
    print_coverage(result)
    if result.mixture is not None:
        print_sensitivity(result.mixture)
    click.echo(summary(result))


def print_coverage(result: CalibrationResult) -> None:
    """The table of tokens by layer, domain and expert; what is below the floor in red."""
    coverage = result.coverage
    experts = [str(expert) for expert in range(coverage.num_routed)]
    table = Table("layer", "data", *experts, "null", box=None)
    low = {(str(layer), str(count)) for (layer, _), count in coverage.below().items()}
    for layer, domain, *cells in coverage.rows():
        marked = [Text(cell, style="red" if (layer, cell) in low else "") for cell in cells]
        table.add_row(layer, domain, *marked)
    click.echo(f"tokens each expert received, floor {coverage.floor}:")
    Console().print(table)


def print_sensitivity(mixture: Mixture) -> None:
    """The graphs whose quantization alone costs most, and what the search made of them."""
    table = Table("graph", "as", box=None, title="costliest graphs, each quantized alone", title_justify="left")
    for name in ("loss, nats", "routing flips", "tokens equal"):
        table.add_column(name, justify="right")
    table.add_column("chosen")
    for found in sorted(mixture.sensitivities, key=lambda found: -found.loss)[:_COSTLIEST]:
        agreement = f"{100 * found.divergence.token_agreement:.1f} %"
        cells = (found.graph, found.flavour, f"{found.loss:.5f}", str(found.router_flips), agreement)
        table.add_row(*cells, mixture.choice[found.graph])
    Console().print(table)


def summary(result: CalibrationResult) -> str:
    """The closing lines: what was written, how large, on what data."""
    precisions = ", ".join(f"{count} {precision}" for precision, count in sorted(result.precisions.items()))
    share = result.bytes_after / result.bytes_before
    items = "1 item" if result.num_items == 1 else f"{result.num_items} items"
    cached = f", {result.num_cached} from the cache" if result.num_cached else ""
    peak = "" if result.peak_bytes is None else f", at most {result.peak_bytes / 1e6:.0f} MB of memory"
    mixed = ""
    if result.mixture is not None:
        loss = result.mixture.point.loss or 0.0
        mixed = f"mixture: loss {loss:.3g} nats on the data's first items; the line: {result.path / PARETO}\n"
    return (
        f"{mixed}{result.path}: {result.scheme} for {result.settings.target}: {precisions} graphs; language model "
        f"{result.bytes_after / 1e6:.1f} MB, {share:.2f} of float32\n"
        f"{items}{cached}, {result.seconds:.1f} s{peak}; coverage: {result.path / HEAT_MAP}"
    )
