"""`unimoe export`: a checkpoint folder into a bundle."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from unimoe.codec.conversion import as_codec_folder
from unimoe_export.exporter import ExportResult, export_bundle
from unimoe_export.published_codec import find_codec
from unimoe_runtime.checkpoint.folder import open_checkpoint
from unimoe_runtime.install import install_command

PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--precision",
    type=click.Choice(tuple(PRECISIONS)),
    default="fp32",
    show_default=True,
    help="How the weights of model and vision tower are stored and, where the engine can, multiplied.",
)
@click.option(
    "--codec",
    type=click.Path(path_type=Path),
    help="DAC's weights_16khz.pth (reading it needs torch) or a codec folder, where CHECKPOINT holds none.",
)
@click.option("--force", is_flag=True, help="Replace a bundle that is there already.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def export(checkpoint: Path, bundle: Path, precision: str, codec: Path | None, force: bool, as_json: bool) -> None:
    """Write CHECKPOINT (a folder, ours or the published UniMoE-Audio one) as the bundle BUNDLE.

    One ONNX graph for each trunk and each expert, weights beside them. Every graph is compared with the numpy
    oracle as it is written. Needs no torch, unless a codec's .pth is to be read. Started again after it was killed,
    it goes on where it stopped.
    """
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("export", total=None)

        def show(index: int, count: int, name: str) -> None:
            bar.update(task, completed=index, total=count, description=name)

        with as_codec_folder(find_codec(open_checkpoint(checkpoint), codec)) as folder:
            result = export_bundle(
                checkpoint, bundle, precision=PRECISIONS[precision], codec=folder, replace=force, progress=show
            )
    click.echo(json.dumps(asdict(result), default=str) if as_json else summary(result))
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)


def summary(result: ExportResult) -> str:
    """The closing line: graphs, size, seconds, deviation from the oracle."""
    if result.largest_error is None:
        parity = f"not compared with the oracle: ONNX Runtime is not installed (`{install_command('cpu')}`)"
    else:
        parity = f"largest deviation from the oracle {result.largest_error:.1e}"
    size = f"{result.num_bytes / 1e6:.1f} MB"
    return f"{result.path}: {result.num_graphs} graphs, {size}, {result.seconds:.1f} s; {parity}"
