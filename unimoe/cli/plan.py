"""`unimoe plan`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from unimoe_runtime.bundle.routing_statistics import (
    Activation,
    bundled_activation,
    parse_activation,
    read_activation,
    stated_activation,
)
from unimoe_runtime.errors import UnimoeError
from unimoe_runtime.hardware.targets import Target, find_target, open_targets
from unimoe_tools.planning.machines import Machine, measured_machine
from unimoe_tools.planning.plan import Source, make_plan, open_source
from unimoe_tools.planning.roofline import step_bytes
from unimoe_tools.planning.weights import BITS, stored_bytes

ALL = "all"
# A bundle larger than this is not run here to see which experts it picks: it would take minutes.
_RUN_HERE_BYTES = 1e9


@click.command()
@click.argument("source", metavar="BUNDLE|FOLDER|CONFIG", type=click.Path(path_type=Path))
@click.option("--target", default=ALL, show_default=True, help="A row of the table of targets, or all of them.")
@click.option("--precision", type=click.Choice(list(BITS)), help="This one alone. [default: all that a target has]")
@click.option("--memory-budget", type=click.FloatRange(min=0, min_open=True), metavar="GB", help="10⁹ bytes at most.")
@click.option(
    "--routing",
    type=click.Path(path_type=Path),
    help="Which experts run: the JSON of `unimoe profile`. [default: the bundle's own record, or a short run here]",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def plan(
    source: Path, target: str, precision: str | None, memory_budget: float | None, routing: Path | None, as_json: bool
) -> None:
    """Estimate what a model will do on a machine that is not here.

    A bundle, a checkpoint's or published folder, or a config.json alone: weights are not needed. Bytes, memory, step,
    real-time factor and first audio for each precision, as a range, and which precision to take.
    """
    opened = open_source(source)
    targets = list(open_targets().values()) if target == ALL else [find_target(target)]
    notes: list[str] = []
    console = Console(stderr=True)
    with console.status("seeing which experts run"):
        activation = _activation(opened, routing, notes)
    here = [one for one in targets if one.engine == "onnxruntime"]
    host: dict[str, Machine] = {}
    if here:
        wanted = [one for one in BITS if precision in (None, one) and any(one in row.precisions for row in here)]
        with console.status("measuring this machine"):
            host = _measure_host(opened, activation, wanted, here, notes, required=target != ALL)
        if not host:
            targets = [one for one in targets if one not in here]
    report = make_plan(
        opened, activation, targets, host=host, precision=precision,
        memory_budget_bytes=None if memory_budget is None else 1e9 * memory_budget,
    )  # fmt: skip
    report["notes"] = notes
    if as_json:
        click.echo(json.dumps(report, indent=1))
    else:
        print_plan(report, targets, Console())


def _activation(source: Source, routing: Path | None, notes: list[str]) -> Activation:
    if routing is not None:
        return read_activation(routing, source.model)
    if source.bundle is None:
        return stated_activation(source.model)
    found = bundled_activation(source.bundle)
    if found is not None:
        return found
    if stored_bytes(source.bundle).resident <= _RUN_HERE_BYTES:
        from unimoe_tools.planning.recording import record_routing

        try:
            return parse_activation(record_routing(source.bundle.path), source.model, "a short run here")
        except UnimoeError as error:
            notes.append(f"which experts run could not be recorded here: {error}")
    return stated_activation(source.model)


def _measure_host(
    source: Source,
    activation: Activation,
    precisions: Sequence[str],
    targets: Sequence[Target],
    notes: list[str],
    *,
    required: bool,
) -> dict[str, Machine]:
    """This CPU at each precision; nothing, with a note, where that cannot be measured and is not required."""
    try:
        from unimoe_calibration.probes import SCHEMES, quantize_probe
        from unimoe_export.probes import write_probe
        from unimoe_tools.planning.host import measure_host

        found = {}
        with tempfile.TemporaryDirectory(prefix="unimoe-plan-") as folder:
            plain = write_probe(Path(folder), source.model)
            for one in precisions:
                probe = quantize_probe(plain, Path(folder) / one, one) if one in SCHEMES else plain
                weights, workload = source.weights(one), source.workload
                read = step_bytes(source.model, weights, activation, workload, launched=activation.mean)
                found[one] = measured_machine(measure_host(probe, step_bytes=read, positions=workload.cached_positions))
        return found
    except (ModuleNotFoundError, UnimoeError) as error:
        if required:
            raise
        notes.append(f"{', '.join(one.name for one in targets)} left out: it cannot be measured here ({error})")
        return {}


def print_plan(report: Mapping[str, Any], targets: Sequence[Target], console: Console) -> None:
    """One target: its precisions. Several: each one's choice."""
    activation = report["activation"]
    console.print(
        f"[bold]{report['source']}[/]: {report['parameters'] / 1e9:.3g} G parameters for audio; of "
        f"{activation['of']} experts {activation['experts_a_step']:.1f} run a step, {activation['nine_of_ten_steps']} "
        f"or fewer in 9 of 10; first audio after {report['delay_steps'] + report['first_frames']} steps; estimates, "
        "(best – worst)",
        highlight=False,
    )
    single = len(targets) == 1
    table = Table(box=None, padding=(0, 2, 0, 0))
    for index, column in enumerate((
        "" if single else "target", "precision", "weights GB", "needs GB", "of GB", "experts in memory",
        "step ms", "RTF", "first audio ms",
    )):  # fmt: skip
        table.add_column(column, justify="left" if index < 2 else "right")
    for target in targets:
        rows = [row for row in report["rows"] if row["target"] == target.name]
        shown = rows if single else [row for row in rows if row["chosen"]] or rows[-1:]
        for row in shown:
            first = ("→" if row["chosen"] else "") if single else target.name
            table.add_row(first, *_cells(row))
    console.print(table)
    if single:
        chosen = [row for row in report["rows"] if row["chosen"]]
        console.print(f"{chosen[0]['precision']}: {chosen[0]['reason']}" if chosen else "nothing fits", highlight=False)
    kept = report["assumptions"]["all"] + (list(report["assumptions"].get(targets[0].name, ())) if single else [])
    for note in (*kept, *report["notes"]):
        console.print(f"- {note}", highlight=False, style="dim")


def _cells(row: Mapping[str, Any]) -> list[str]:
    sizes = [f"{row[name] / 1e9:.3g}" for name in ("weight_bytes", "needed_bytes", "memory_bytes")]
    if not row["fits"]:
        return [row["precision"], *sizes, "does not fit", "", "", ""]
    return [
        row["precision"],
        *sizes,
        "all" if row["fits_whole"] else f"{row['resident_share']:.0%}",
        _range(row["step_ms"]),
        _range(row["rtf"]),
        _range(row["ttfa_ms"]),
    ]


def _range(values: Sequence[float] | None) -> str:
    if values is None:
        return "–"
    best, middle, worst = (f"{value:.3g}" if value < 1000 else f"{value:.0f}" for value in values)
    return f"{middle} ({best} – {worst})"
