"""`unimoe inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from unimoe.cli.bundle_argument import BUNDLE
from unimoe.cli.options import Command, json_option, write_json
from unimoe.cli.tables import Column, columns, print_facts, print_prose, print_table
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_tools.bundles.abilities import read_abilities
from unimoe_tools.bundles.contents import describe, engines_of, graph_signatures, model_facts, parts_of
from unimoe_tools.units import size


@click.command(cls=Command)
@click.argument("bundle", type=BUNDLE)
@click.option("--graphs", is_flag=True, help="Show every kind of graph with the shapes of its inputs and outputs.")
@click.option("--check", is_flag=True, help="Verify the SHA-256 of every file.")
@json_option
def inspect(bundle: Path, graphs: bool, check: bool, json_to: str | None) -> None:
    """Show what a BUNDLE speaks, how large its parts are, and which engines are built and verified."""
    opened = open_bundle(bundle)
    num_checked = sum(1 for _ in opened.check_all()) if check else 0
    if write_json({**describe(opened), "files_checked": num_checked}, json_to):
        return
    print_facts({"bundle": str(bundle), **_speaks(opened), **model_facts(opened)})
    _print_parts(opened)
    _print_engines(opened)
    if graphs:
        _print_graphs(opened)
    if check:
        click.echo(f"\n{num_checked} files, each as the manifest says")


def _speaks(bundle: Bundle) -> dict[str, str]:
    if bundle.frontend_dir is None:
        return {"speaks": "nothing: it holds a language model without a front end"}
    abilities = read_abilities(bundle)
    facts = {
        "tasks": ", ".join(abilities.tasks),
        "languages": ", ".join(abilities.languages),
        "voices": ", ".join(abilities.voices) or "none",
        "instruments": ", ".join(abilities.instruments) or "none",
    }
    if abilities.max_voice_s:
        facts["clones"] = f"a voice from a recording of up to {abilities.max_voice_s:g} s"
    return facts


def _print_parts(bundle: Bundle) -> None:
    parts = parts_of(bundle)
    total = sum(part.num_bytes for part in parts) or 1
    left_out = sum(part.left_out_bytes for part in parts)
    rows = [
        [
            part.name, size(part.num_bytes) if part.num_bytes else "–",
            f"{100 * part.num_bytes / total:.0f} %" if part.num_bytes else "",
            size(part.left_out_bytes) if part.left_out_bytes else "",
            str(part.num_graphs) if part.num_graphs else "", ", ".join(part.precisions),
        ]
        for part in parts
    ]  # fmt: skip
    graphs = sum(part.num_graphs for part in parts)
    rows.append(["all", size(total), "", size(left_out) if left_out else "", str(graphs), ""])
    titles = ("part", "size", "share", "left out by pack" if left_out else "", "graphs", "precision")
    print_table(columns(*titles, left=("precision",)), rows, title="parts")


def _print_engines(bundle: Bundle) -> None:
    rows = [
        [
            one.target, f"{one.flavour} {one.engine_version}", ", ".join(one.precisions), str(one.num_engines),
            size(one.num_bytes), one.error or one.verified,
        ]
        for one in engines_of(bundle)
    ]  # fmt: skip
    if not rows:
        click.echo()
        print_prose("engines: none built (`unimoe build` makes them for a GPU); the CPU needs none")
        return
    titles = ("target", "built with", "precision", "engines", "size", "verified")
    print_table(columns(*titles, left=("built with", "precision"), prose=("verified",)), rows, title="engines")


def _print_graphs(bundle: Bundle) -> None:
    rows = graph_signatures(bundle)
    for kind in dict.fromkeys(_kind(row["graph"]) for row in rows):
        members = [row for row in rows if _kind(row["graph"]) == kind]
        sizes = sorted({row["bytes"] for row in members})
        spread = size(sizes[0]) if len(sizes) == 1 else f"{size(sizes[0])} to {size(sizes[-1])}"
        precisions = ", ".join(sorted({row["precision"] for row in members}))
        signature: dict[str, Any] = members[0]
        # One below another: side by side they would look like pairs.
        tensors = [(side, tensor) for side in ("inputs", "outputs") for tensor in signature[side]]
        print_table(
            [Column(title=""), Column(title="")],
            [(side.removesuffix("s"), tensor) for side, tensor in tensors],
            title=f"{kind} × {len(members)}: {spread} each, {precisions}",
        )


def _kind(graph: str) -> str:
    """The kind of a graph; graphs of one kind have one signature. layers.3.expert.1 is of kind layers.*.expert.*"""
    return ".".join("*" if part.isdigit() else part for part in graph.split("."))
