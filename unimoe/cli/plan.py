"""`unimoe plan`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from unimoe.cli.bundle_argument import INCLUDED, included_bundle
from unimoe.cli.options import Command, Precision, Size, json_option, write_json
from unimoe.cli.progress import Progress, progress_bar
from unimoe.cli.tables import Column, print_prose, print_table
from unimoe_runtime.bundle.routing_statistics import (
    Activation,
    assumed_activation,
    bundled_activation,
    parse_activation,
    read_activation,
)
from unimoe_runtime.errors import UnimoeError
from unimoe_runtime.hardware.precisions import PRECISIONS, shown_precision
from unimoe_runtime.hardware.targets import Target, find_target, open_targets
from unimoe_tools.planning.machines import Machine, measured_machine
from unimoe_tools.planning.plan import make_plan
from unimoe_tools.planning.roofline import step_bytes
from unimoe_tools.planning.source import Source, open_source
from unimoe_tools.planning.weights import BITS, plan_precisions, stored_bytes
from unimoe_tools.profiling.machine import BackgroundLoad
from unimoe_tools.profiling.sweep import NOISY_CORES
from unimoe_tools.units import parameters, percent, size, span, time_column

ALL = "all"
_PRECISIONS = {name: stored for name in PRECISIONS for stored in BITS if shown_precision(stored) == name}
# Larger bundles are not run to observe which experts they pick: it would take minutes.
_RUN_HERE_BYTES = 1e9


@click.command(cls=Command)
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@click.option("--target", default=ALL, show_default=True, help="A row of the table of targets, or all of them.")
@click.option("--precision", type=Precision(_PRECISIONS), help="Only this precision. [default: all that a target has]")
@click.option("--memory-budget", type=Size("GB"), help="Memory that the model may use, such as 6GB.")
@click.option(
    "--routing",
    type=click.Path(path_type=Path),
    help="Which experts run: the JSON of `unimoe profile`. [default: the bundle's own record, or a short run here]",
)
@json_option
def plan(
    source: Path,
    target: str,
    precision: str | None,
    memory_budget: int | None,
    routing: Path | None,
    json_to: str | None,
) -> None:
    """Estimate what a model will do on a machine that is not here.

    SOURCE is a bundle, a checkpoint's folder, the published folder, or a config.json alone: weights are not needed.
    `public` is the published UniMoE-Audio model; `demo` and `voices` come with the package. For each precision the
    plan gives bytes, memory, step, real-time factor and first audio, each as the middle of a range (best–worst). It
    chooses one precision.
    """
    is_included = str(source) in INCLUDED and not source.exists()
    opened = open_source(included_bundle(str(source)) if is_included else source)
    targets = list(open_targets().values()) if target == ALL else [find_target(target)]
    wanted = None if precision is None else _PRECISIONS[precision]
    notes: list[str] = []
    host: dict[str, Machine] = {}
    with progress_bar("finding out which experts run") as progress:
        activation = _activation(opened, routing, notes)
        here = [one for one in targets if one.engine == "onnxruntime"]
        if here:
            chosen = [one for one in BITS if wanted in (None, one) and any(one in plan_precisions(row) for row in here)]
            try:
                host = _measure_host(opened, activation, chosen, notes, progress)
            except (ModuleNotFoundError, UnimoeError) as error:
                if target != ALL:
                    raise
                notes.append(f"{', '.join(one.name for one in here)} left out: it cannot be measured here ({error})")
            if not host:
                targets = [one for one in targets if one not in here]
    report = make_plan(opened, activation, targets, host=host, precision=wanted, memory_budget_bytes=memory_budget)
    report["notes"] = notes
    if not write_json(report, json_to):
        print_plan(report, targets)


def _activation(source: Source, routing: Path | None, notes: list[str]) -> Activation:
    if routing is not None:
        return read_activation(routing, source.model)
    if source.bundle is None:
        return assumed_activation(source.model)
    found = bundled_activation(source.bundle)
    if found is not None:
        return found
    if stored_bytes(source.bundle).resident <= _RUN_HERE_BYTES:
        from unimoe_tools.planning.recording import record_routing

        try:
            return parse_activation(record_routing(source.bundle.path), source.model, "a short run here")
        except UnimoeError as error:
            notes.append(f"which experts run could not be recorded here: {error}")
    return assumed_activation(source.model)


def _measure_host(
    source: Source, activation: Activation, precisions: Sequence[str], notes: list[str], progress: Progress
) -> dict[str, Machine]:
    """This CPU at each precision."""
    from unimoe_calibration.quantized_probe import SCHEMES, quantize_probe
    from unimoe_export.probes import write_probe
    from unimoe_tools.planning.host import measure_host

    found, background = {}, BackgroundLoad()
    with tempfile.TemporaryDirectory(prefix="unimoe-plan-") as folder:
        progress("writing a layer of these sizes", 0, len(precisions))
        plain = write_probe(Path(folder), source.model)
        for index, one in enumerate(precisions):
            progress(f"measuring this machine in {shown_precision(one)}", index, len(precisions))
            probe = quantize_probe(plain, Path(folder) / one, one) if one in SCHEMES else plain
            weights, workload = source.weights(one), source.workload
            read = step_bytes(source.model, weights, activation, workload, launched=activation.mean)
            found[one] = measured_machine(measure_host(probe, step_bytes=read, positions=workload.cached_positions))
    cores = background.cores()
    if cores is not None and cores > NOISY_CORES:
        notes.append(f"WARNING: others kept {cores:.2f} cores busy while this machine was measured: plan again")
    return found


def print_plan(report: Mapping[str, Any], targets: Sequence[Target]) -> None:
    """For one target, its precisions. For several, the choice for each."""
    activation = report["activation"]
    print_prose(
        f"{report['source']}: {parameters(report['parameters'])}, without codec and vision; of {activation['of']} "
        f"experts {activation['experts_a_step']:.1f} run a step, {activation['nine_of_ten_steps']} or fewer in 9 of 10 "
        f"steps; first audio after {report['delay_steps'] + report['first_frames']} steps; estimates, each as middle "
        "(best–worst)"
    )
    click.echo()
    single = len(targets) == 1
    chosen_rows = []
    for target in targets:
        of_target = [row for row in report["rows"] if row["target"] == target.name]
        shown = of_target if single else [row for row in of_target if row["chosen"]] or of_target[-1:]
        chosen_rows += [([_marked(row)] if single else [target.name, row["precision"]], row) for row in shown]
    titles = (*(() if single else ("target",)), "precision", "needs", "has", "fits")
    table = [Column(title=title, right=title not in ("target", "precision")) for title in titles]
    ranges: list[tuple[str, float]] = []
    for title, name in (("step", "step_ms"), ("RTF", "rtf"), ("first\naudio", "ttfa_ms")):
        head, factor = (title, 1.0) if name == "rtf" else time_column(title, [row[name] for _, row in chosen_rows])
        table.append(Column(title=head, right=True, prose=True))
        ranges.append((name, factor))
    table_rows = [[*names, *_cells(row, ranges)] for names, row in chosen_rows]
    print_table(table, table_rows)
    if single and len(table_rows) > 1:
        chosen = [row for row in report["rows"] if row["chosen"]]
        print_prose(f"{chosen[0]['precision']}: {chosen[0]['reason']}" if chosen else "nothing fits")
    kept = report["assumptions"]["all"] + (list(report["assumptions"].get(targets[0].name, ())) if single else [])
    click.echo()
    for note in (*kept, *report["notes"]):
        warns = note.startswith("WARNING")
        print_prose(f"- {note}", indent="  ", fg="yellow" if warns else None, dim=not warns)
    if not single:
        click.echo("`--target NAME` shows every precision of one target, and what is assumed of it")


def _marked(row: Mapping[str, Any]) -> str:
    return f"{'→' if row['chosen'] else ' '} {row['precision']}"


def _cells(row: Mapping[str, Any], ranges: Sequence[tuple[str, float]]) -> list[str]:
    sizes = [size(row[name]) for name in ("needed_bytes", "memory_bytes")]
    if not row["fits"]:
        return [*sizes, "no", *[""] * len(ranges)]
    share = "all" if row["fits_whole"] else percent(row["resident_share"], 0)
    spans = [span([factor * value for value in row[name]]) if row[name] else "–" for name, factor in ranges]
    return [*sizes, share, *spans]
