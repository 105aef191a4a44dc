"""`unimoe inputs`."""

from __future__ import annotations

from pathlib import Path

import click

from unimoe.cli.bundle_argument import BUNDLE
from unimoe.cli.options import Command, json_option, write_json
from unimoe.cli.tables import print_next
from unimoe_export.polygraphy_files import graph_call, write_inputs, write_outputs
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_tools.output import require_writable
from unimoe_tools.units import count

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(cls=Command)
@click.argument("bundle", type=BUNDLE)
@click.option("--graph", required=True, help="Name of the graph, such as layers.0.expert.3, layers.0.trunk or head.")
@click.option("-o", "--output", required=True, type=_FILE, help="Write the inputs here.")
@click.option("--outputs", "outputs_path", type=_FILE, help="Write the oracle's outputs for these inputs here.")
@json_option
def inputs(bundle: Path, graph: str, output: Path, outputs_path: Path | None, json_to: str | None) -> None:
    """Write real inputs of one graph of a BUNDLE in Polygraphy's format.

    They are the inputs that the graph receives while the bundle reads a standard prompt.
    """
    for path in (output, outputs_path):
        if path is not None:
            require_writable(path)
    opened = open_bundle(bundle)
    given, expected = graph_call(opened, graph)
    write_inputs(output, given)
    if outputs_path is not None:
        write_outputs(outputs_path, expected)
    file = bundle / opened.graphs[graph].file
    compare = "" if outputs_path is None else f" --load-outputs {outputs_path}"
    command = f"polygraphy run {file} --onnxrt --load-inputs {output}{compare}"
    record = {"graph": graph, "file": str(file), "inputs": str(output), "outputs": outputs_path, "next": command}
    if not write_json(record, json_to):
        click.echo(f"{output}: {count(len(given), 'input')} of {graph}")
        print_next(f"`{command}`")
