"""`unimoe export`: turns a checkpoint folder into a bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from unimoe.cli.bundle_argument import CHECKPOINT
from unimoe.cli.options import Command, Precision, json_option, write_json
from unimoe.cli.process import tell
from unimoe.cli.progress import progress_bar
from unimoe.cli.tables import as_word, print_next
from unimoe.codec.conversion import as_codec_folder
from unimoe_export.exporter import ExportResult, export_bundle
from unimoe_export.published_codec import find_codec
from unimoe_runtime.checkpoint.folder import open_checkpoint
from unimoe_runtime.hardware.precisions import stored_precision_name
from unimoe_runtime.install import install_command
from unimoe_tools.units import count, duration, size

PRECISIONS = ("fp32", "fp16", "bf16")


@click.command(cls=Command)
@click.argument("checkpoint", type=CHECKPOINT)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--precision",
    type=Precision(PRECISIONS),
    default="fp32",
    show_default=True,
    help="How the weights of model and vision tower are stored and, where the engine can, multiplied.",
)
@click.option(
    "--codec",
    type=click.Path(path_type=Path),
    help="DAC's weights_16khz.pth (reading it needs torch) or a codec folder, where CHECKPOINT holds none.",
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@json_option
def export(
    checkpoint: Path, bundle: Path, precision: str, codec: Path | None, force: bool, json_to: str | None
) -> None:
    """Write CHECKPOINT (`demo`, `voices`, or a folder: ours or the published UniMoE-Audio one) as the bundle BUNDLE.

    A bundle has one ONNX graph for each trunk and each expert, with the weights beside them. Every graph is compared
    with the numpy oracle as it is written. The command needs no torch, unless it reads a codec's .pth. After an
    interruption the same command resumes.
    """
    with progress_bar() as progress, as_codec_folder(find_codec(open_checkpoint(checkpoint), codec)) as folder:
        result = export_bundle(
            checkpoint, bundle, precision=stored_precision_name(precision), codec=folder, replace=force,
            progress=lambda index, total, name: progress(name, index, total),
        )  # fmt: skip
    for warning in result.warnings:
        tell(f"warning: {warning}")
    if not write_json(asdict(result), json_to):
        click.echo(summary(result, precision))
        print_next(f"`unimoe inspect {as_word(bundle)}`", f'`unimoe synth {as_word(bundle)} --text "…" -o out.wav`')


def summary(result: ExportResult, precision: str) -> str:
    """The closing line: graphs, precision, size, seconds, deviation from the oracle."""
    if result.largest_error is None:
        parity = f"not compared with the oracle: ONNX Runtime is not installed (`{install_command('cpu')}`)"
    else:
        parity = f"largest deviation from the oracle {result.largest_error:.1e}"
    graphs = f"{count(result.num_graphs, 'graph')} in {precision}"
    return f"{result.path}: {graphs}, {size(result.num_bytes)}, {duration(result.seconds)}; {parity}"
