"""`unimoe doctor`."""

from __future__ import annotations

import json
import sys

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unimoe_tools.doctor.diagnosis import Diagnosis, Finding, diagnose
from unimoe_tools.doctor.evidence import gather

_MARKS = {"ok": "[green]ok[/]", "missing": "[yellow]missing[/]", "broken": "[red]broken[/]", "idle": "[dim]–[/]"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(as_json: bool) -> None:
    """See what this machine can run, and the next step for what is missing.

    Exit code 0 where some engine here can run bundles, else 1. Drivers and engines are asked in processes of their
    own, so one that crashes is a finding.
    """
    diagnosis = diagnose(gather())
    if as_json:
        click.echo(json.dumps(diagnosis.to_dict(), indent=1))
    else:
        _print(diagnosis)
    sys.exit(0 if diagnosis.can_run else 1)


def _print(diagnosis: Diagnosis) -> None:
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    machine = diagnosis.machine
    lines = [machine["system"], machine["python"], f"{machine['cpu']}, {machine['cores']} cores"]
    lines[-1] += "".join(f", {name}" for name in machine["instructions"])
    if machine["memory_bytes"]:
        free = f", {machine['free_bytes'] / 1e9:.1f} free" if machine["free_bytes"] else ""
        lines.append(f"{machine['memory_bytes'] / 1e9:.1f} GB of memory{free}")
    lines += [machine["jetson"]] if machine["jetson"] else []
    for gpu in machine["gpus"]:
        capability = "{}.{}".format(*gpu["compute_capability"])
        shared = ", shared with the CPU" if gpu["integrated"] else ""
        lines.append(f"{gpu['name']}, compute capability {capability}, {gpu['memory_bytes'] / 1e9:.1f} GB{shared}")
    console.print("\n".join(lines), highlight=False, markup=False)
    _print_findings(console, "engines", diagnosis.engines)
    _print_findings(console, "packages", diagnosis.extras)
    console.print("\ntargets", highlight=False)
    for fit in diagnosis.targets:
        others = f" (alike: {', '.join(fit.others)})" if fit.others else ""
        name = fit.closest or "no row has its compute capability; add one (docs/quantized-bundles.md)"
        console.print(f"  {name}: {fit.device}{others}", highlight=False, markup=False)
    verdict = "bundles can run here" if diagnosis.can_run else "no engine here can run a bundle: take a step above"
    console.print(f"\n{verdict}", highlight=False)


def _print_findings(console: Console, title: str, findings: tuple[Finding, ...]) -> None:
    table = Table(box=None, show_header=False, padding=(0, 1))
    for finding in findings:
        step = "" if finding.step is None else f"\n[bold]→ {escape(finding.step)}[/]"
        table.add_row(finding.name, _MARKS[finding.state], escape(finding.detail) + step)
    console.print(f"\n{title}", highlight=False)
    console.print(table, highlight=False)
