"""`unimoe inspect`."""

from __future__ import annotations

import json
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unimoe_runtime.bundle.reader import Bundle, GraphInfo, TensorInfo, open_bundle


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
    rows = _graph_rows(opened)
    for kind in dict.fromkeys(_kind(row["graph"]) for row in rows):
        console.print(_kind_table(kind, [row for row in rows if _kind(row["graph"]) == kind]))
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
        "vision": bundle.manifest.get("vision"),
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
            "inputs": [_signature(tensor) for tensor in graph.inputs],
            "outputs": [_signature(tensor) for tensor in graph.outputs],
        }
        for name, graph in bundle.graphs.items()
    ]


def _kind(graph: str) -> str:
    """Graphs of one kind have one signature: layers.3.expert.1 is a layers.*.expert.*"""
    return ".".join("*" if part.isdigit() else part for part in graph.split("."))


def _kind_table(kind: str, rows: list[dict[str, Any]]) -> Table:
    sizes = sorted({row["bytes"] for row in rows})
    spread = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    precisions = ", ".join(sorted({row["precision"] for row in rows}))
    title = f"\n[bold]{kind}[/] × {len(rows)}: {spread} bytes each, {precisions}"
    table = Table(title=title, title_justify="left", title_style="", box=None, show_header=False, padding=(0, 2))
    for name, value in zip_longest(rows[0]["inputs"], rows[0]["outputs"], fillvalue=""):
        table.add_row(Text(name), Text("→ " + value if value else ""))
    return table


def _bytes(bundle: Bundle, graph: GraphInfo) -> int:
    return bundle.files[graph.file].bytes + bundle.files[graph.weights].bytes


def _signature(tensor: TensorInfo) -> str:
    return f"{tensor.name} {tensor.dtype} [{', '.join(map(str, tensor.shape))}]"


def _sentence(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {item}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
