"""`unimoe calibrate`: quantizes a float32 bundle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from unimoe.cli.bundle_argument import BUNDLE
from unimoe.cli.figures import print_figures
from unimoe.cli.options import (
    Command,
    Number,
    Precision,
    Size,
    Whole,
    json_option,
    read_toml_section,
    write_json,
)
from unimoe.cli.process import tell
from unimoe.cli.progress import progress_bar
from unimoe.cli.tables import as_word, columns, print_next, print_table
from unimoe_calibration.cache import default_cache_dir
from unimoe_calibration.calibration import calibrate
from unimoe_calibration.coverage import Coverage
from unimoe_calibration.memory import return_large_blocks
from unimoe_calibration.result import REPORT, CalibrationResult
from unimoe_calibration.settings import FALLBACKS, METHODS, Settings
from unimoe_runtime.errors import CalibrationError, ConfigError
from unimoe_runtime.hardware.precisions import quantization_scheme, scheme_precision, shown_precision
from unimoe_runtime.hardware.targets import find_target
from unimoe_tools.output import require_writable, write_output
from unimoe_tools.units import count, duration, number, percent, size

_PRECISIONS = ("int8", "int8-weights", "int4", "fp8")
_COSTLIEST = 10


@click.command("calibrate", cls=Command)
@click.argument("bundle", type=BUNDLE)
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--recipe",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A TOML file whose section [calibrate] has these options as fields. The command line takes precedence.",
)
@click.option("--target", help="The hardware it will run on: a row of the table of targets. [default: cpu]")
@click.option(
    "--data",
    "--corpus",
    "data",
    type=click.Path(path_type=Path),
    help="Texts and recordings: JSON lines, or a folder of your audio with its texts. [default: the bundle's own]",
)
@click.option(
    "--precision",
    "--scheme",
    "precision",
    type=Precision(_PRECISIONS),
    help="Precision of weights and inputs. [default: the target's]",
)
@click.option("--method", type=click.Choice(METHODS), help="How ranges are found. [default: auto]")
@click.option("--floor", type=int, help="Tokens that every expert should receive. [default: 512]")
@click.option("--strict", is_flag=True, default=None, help="Fail if an expert stays below the floor.")
@click.option(
    "--fallback",
    type=click.Choice(FALLBACKS),
    help="What an expert below the floor gets: its weights alone quantized, ranges of the nearest rows, or float. "
    "[default: weight-only]",
)
@click.option("--max-bytes", type=Size(), help="Largest size of the language model, such as 8MB.")
@click.option("--max-latency-ms", type=Number(min=0), help="Longest decode step, in milliseconds.")
@click.option("--max-loss", type=Number(min=0), help="Largest mean divergence of the logits.")
@click.option(
    "--flips/--no-flips",
    default=None,
    help="Count the routing decisions that each graph's quantization flips. [default: count]",
)
@click.option(
    "--verify-steps",
    type=Whole(0),
    help="Steps of each request that compare the result with its original; 0 for none. [default: 60]",
)
@click.option(
    "--cache", "cache_dir", type=click.Path(path_type=Path), help="Where statistics are kept. [default: user's cache]"
)
@click.option("--seed", type=click.IntRange(min=0), help="Order of the data. [default: 0]")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@json_option
@click.option(
    "--html", "html_path", type=click.Path(path_type=Path, dir_okay=False), help=f"Write the page here and as {REPORT}."
)
def calibrate_command(
    bundle: Path,
    out: Path,
    recipe: Path | None,
    precision: str | None,
    force: bool,
    json_to: str | None,
    html_path: Path | None,
    **chosen: Any,
) -> None:
    """Quantize BUNDLE (fp32) for a target into the bundle OUT.

    The bundle reads the data, and calibration records the inputs of its matrix products until every expert has
    received enough tokens. Routers, norms, the residual and the codec stay fp32. The result is compared with its
    original, and OUT contains a page with all figures. Needs no torch.
    """
    if html_path is not None:
        require_writable(html_path)
    return_large_blocks()
    given = {name: value for name, value in chosen.items() if value is not None}
    if precision is not None:
        given["scheme"] = quantization_scheme(precision)
    fields = {"cache_dir": default_cache_dir(), **(read_recipe(recipe) if recipe else {}), **given}
    coverage: list[Coverage] = []
    try:
        with progress_bar("calibrating") as progress:
            result = calibrate(
                bundle, out, Settings.from_recipe(fields), replace=force, progress=progress,
                on_coverage=coverage.append,
            )  # fmt: skip
    except CalibrationError:
        if coverage and fields.get("strict"):
            print_coverage(coverage[0], err=True)
        raise
    for warning in result.warnings:
        tell(f"warning: {warning}")
    if html_path is not None:
        write_output(html_path, (out / REPORT).read_text(encoding="utf-8"))
    if not write_json(result.figures(), json_to):
        print_coverage(result.coverage)
        print_sensitivities(result)
        print_verification(result)
        click.echo(f"\n{summary(result, html_path or out / REPORT)}")
        print_next(*_next_steps(result))


def read_recipe(path: Path) -> dict[str, Any]:
    """The section [calibrate] of a recipe as fields of the settings. Paths are relative to the recipe's folder.

    Raises ConfigError with one line if the file is not a recipe or a field has a value of the wrong type.
    """
    fields = dict(read_toml_section(path, "calibrate"))
    for name in ("data", "cache_dir"):
        if name in fields:
            fields[name] = path.parent / str(fields[name])
    try:
        if "precision" in fields:
            fields["scheme"] = quantization_scheme(str(fields.pop("precision")))
        if "max_bytes" in fields:
            fields["max_bytes"] = Size().convert(str(fields["max_bytes"]), None, None)
        Settings.from_recipe(fields)
    except click.BadParameter as error:
        raise ConfigError(f"{path}: max_bytes: {error.message}") from None
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    return fields


def print_coverage(coverage: Coverage, *, err: bool = False) -> None:
    """The table of tokens by layer, domain and expert; counts below the floor in red."""
    low = {(str(layer), str(tokens)) for (layer, _), tokens in coverage.below().items()}
    rows = [
        [layer, domain, *(click.style(cell, fg="red") if (layer, cell) in low else cell for cell in cells)]
        for layer, domain, *cells in coverage.rows()
    ]
    titles = ("layer", "data", *map(str, range(coverage.num_routed)), "null")
    title = f"tokens that each expert received, floor {coverage.floor}"
    print_table(columns(*titles, left=("data",)), rows, title=title, err=err)


def print_sensitivities(result: CalibrationResult) -> None:
    """The graphs with the largest loss when each is quantized alone."""
    rows = [
        [
            found.graph, scheme_precision(found.scheme), f"{found.loss:.5f}", f"{found.router_flips:,}",
            percent(found.divergence.token_agreement),
        ]
        for found in sorted(result.sensitivities, key=lambda found: -found.loss)[:_COSTLIEST]
    ]  # fmt: skip
    if rows:
        titles = ("graph", "as", "loss, nats", "routing flips", "tokens equal")
        title = f"costliest graphs, each quantized alone; flips of {result.num_decisions:,} routing decisions"
        print_table(columns(*titles, left=("as",)), rows, title=title)


def print_verification(result: CalibrationResult) -> None:
    """The figures that compare the result with its original."""
    if result.verification is None:
        return
    print_figures(result.verification.figures, "beside the original")


def summary(result: CalibrationResult, page: Path) -> str:
    """The closing lines: what was written, its size, the data it used, and the place of its page."""
    precisions = ", ".join(f"{amount} {shown_precision(name)}" for name, amount in sorted(result.precisions.items()))
    cached = f", {result.num_cached} from the cache" if result.num_cached else ""
    peak = "" if result.peak_bytes is None else f", at most {size(result.peak_bytes)} of memory"
    mixed = ""
    if result.mixture is not None:
        mixed = f"mixture: loss {number(result.mixture.point.loss or 0.0)} nats on the data's first items\n"
    return (
        f"{mixed}{result.path}: {precisions} graphs for {result.settings.target}; language model "
        f"{size(result.bytes_after)}, {percent(result.bytes_after / result.bytes_before, 0)} of fp32\n"
        f"{count(result.num_items, 'item')}{cached}, {duration(result.seconds)}{peak}; page: {page}"
    )


def _next_steps(result: CalibrationResult) -> Sequence[str]:
    build = ""
    if find_target(result.settings.target).engine == "tensorrt":
        build = f"`unimoe build {as_word(result.path)} --target {result.settings.target}`"
    data = result.settings.data
    recordings = f" --corpus {as_word(os.path.normpath(data))}" if data is not None and data.is_dir() else ""
    return [
        build,
        f"`unimoe verify {as_word(result.path)} --against {as_word(result.source)}{recordings}`",
        f"`unimoe profile {as_word(result.path)} --against {as_word(result.source)}`",
    ]
