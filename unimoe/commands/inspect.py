"""`unimoe inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from unimoe_runtime.bundle import Bundle, GraphInfo, TensorInfo, open_bundle


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Verify the SHA-256 of every file.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def inspect(bundle: Path, check: bool, as_json: bool) -> None:
    """Show what is in a BUNDLE: model, graphs, shapes, bytes, experts."""
    opened = open_bundle(bundle)
    num_checked = sum(1 for _ in opened.check_all()) if check else 0
    summary = _summary(opened)
    if as_json:
        click.echo(json.dumps({**summary, "files_checked": num_checked, "graphs": _graph_rows(opened)}, indent=1))
        return
    console = Console()
    for name, value in summary.items():
        console.print(f"[bold]{name.replace('_', ' ')}[/]: {_sentence(value)}", highlight=False)
    table = Table("graph", "precision", "bytes", "inputs", "outputs", box=None, header_style="bold")
    for row in _grouped(_graph_rows(opened)):
        table.add_row(row["graph"], row["precision"], f"{row['bytes']:,}", row["inputs"], row["outputs"])
    console.print(table)
    if check:
        console.print(f"{num_checked} files, each as the manifest says")


def _summary(bundle: Bundle) -> dict[str, Any]:
    model, codec = bundle.model, bundle.codec
    return {
        "bundle": str(bundle.path),
        "layers": model.num_layers,
        "hidden": model.hidden_size,
        "experts_a_layer": {
            "routed": model.num_routed_experts, "null": model.num_null_experts, "shared": model.num_shared_experts,
        },
        "routing": f"top-p {model.top_p:g}" if model.selection == "top_p" else f"top-k {model.top_k}",
        "weighting": model.weighting,
        "codec": {key: value for key, value in codec.items() if not isinstance(value, list)} if codec else None,
        "tasks": sorted(bundle.sampling),
        "opset": bundle.manifest.get("opset"),
        "bytes": sum(info.bytes for info in bundle.files.values()),
        "expert_bytes": sum(
            bundle.files[graph.weights].bytes for name, graph in bundle.graphs.items() if ".expert." in name
        ),
    }  # fmt: skip


def _graph_rows(bundle: Bundle) -> list[dict[str, Any]]:
    return [
        {
            "graph": name,
            "precision": graph.precision,
            "bytes": _bytes(bundle, graph),
            "inputs": _signature(graph.inputs),
            "outputs": _signature(graph.outputs),
        }
        for name, graph in bundle.graphs.items()
    ]


def _grouped(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The table's rows: a layer's experts, all of one shape, become one row with their bytes added up."""
    grouped: dict[str, dict[str, Any]] = {}
    for row in rows:
        layer, _, expert = row["graph"].partition(".expert.")
        name = f"{layer}.expert.*" if expert else layer
        if name in grouped:
            grouped[name]["count"] += 1
            grouped[name]["bytes"] += row["bytes"]
        else:
            grouped[name] = {**row, "count": 1}
    return [
        {**row, "graph": name if row["count"] == 1 else f"{name} × {row['count']}"} for name, row in grouped.items()
    ]


def _bytes(bundle: Bundle, graph: GraphInfo) -> int:
    return bundle.files[graph.file].bytes + bundle.files[graph.weights].bytes


def _signature(tensors: tuple[TensorInfo, ...]) -> str:
    return ", ".join(f"{tensor.name}[{','.join(map(str, tensor.shape))}]" for tensor in tensors)


def _sentence(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {item}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
