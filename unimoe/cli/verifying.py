"""What `unimoe verify` does for engines: compare each with the CPU, show it, leave the record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.bundle.engine_sets import EngineSet
from unimoe_runtime.bundle.engine_verification import Agreement, write_verification
from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.errors import OutputError
from unimoe_tools.parity.engines import verify_engines
from unimoe_tools.parity.sample_requests import standard_requests


def reference_on_cpu(bundle: Bundle) -> tuple[Backend, str]:
    """What a device is compared with: the numpy oracle, or ONNX Runtime where that cannot compute the bundle."""
    if bundle.is_quantized:
        return open_backend("onnxruntime", bundle), "ONNX Runtime on the CPU"
    return open_backend("numpy", bundle), "the numpy oracle"


def verify_set(
    candidate: Backend, engine_set: EngineSet, *, steps: int, tolerance: float | None, as_json: bool
) -> bool:
    """Verify a set, print what came out, and write the record. True where it passed.

    The reference is ONNX Runtime on the CPU, or numpy where that is not installed.
    """
    bundle = candidate.bundle
    if find_spec("onnxruntime") is not None:
        reference, name = open_backend("onnxruntime", bundle), "ONNX Runtime on the CPU"
    else:
        reference, name = open_backend("numpy", bundle), "the numpy oracle"
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("comparing engines", total=None)
        found = verify_engines(
            candidate, reference, engine_set, standard_requests(bundle)[0], steps=steps, tolerance=tolerance,
            tick=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    try:
        path = write_verification(engine_set.path, found)
    except OSError as error:
        raise OutputError(
            f"{engine_set.path}: the record cannot be written ({error.strerror}); make the folder writable"
        ) from None
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=1))
        return found.passed
    rows = [(key, verdict.max_abs_error, verdict.allowed) for key, verdict in found.engines.items()]
    Console().print(graph_table(f"{engine_set.path} against {name}", rows))
    click.echo(agreement_lines(found.agreement))
    on = f"{found.machine['gpu'] or 'no GPU'}, driver {found.machine['driver'] or 'unknown'}"
    verdict = "verified" if found.passed else "NOT verified: see the table"
    click.echo(f"{verdict} ({on}); record: {path}")
    return found.passed


def graph_table(title: str, rows: Sequence[tuple[str, float, float]]) -> Table:
    """Graph, largest error, error allowed, verdict; of a layer's experts the worst stands for all."""
    table = Table("graphs", "largest error", "allowed", "", title=title, title_justify="left", box=None)
    groups: dict[str, list[tuple[float, float]]] = {}
    for graph, error, allowed in rows:
        layer, is_expert, _ = graph.partition(".expert.")
        groups.setdefault(f"{layer}.expert.*" if is_expert else graph, []).append((error, allowed))
    for name, members in groups.items():
        error, allowed = max(members, key=lambda member: member[0] - member[1])
        count = f" × {len(members)}" if len(members) > 1 else ""
        table.add_row(name + count, f"{error:.1e}", f"{allowed:.1e}", "ok" if error <= allowed else "FAILS")
    return table


def agreement_lines(agreement: Agreement) -> str:
    first = "none" if agreement.first_difference is None else f"step {agreement.first_difference}"
    return (
        f"router: {100 * agreement.router_agreement:.3f} % of decisions agree, "
        f"{100 * agreement.equal_sets:.3f} % of sets are equal\n"
        f"tokens: {100 * agreement.token_agreement:.3f} % agree when forced; first difference of greedy runs: {first}"
    )
