"""`unimoe doctor`."""

from __future__ import annotations

import sys

import click

from unimoe.cli.options import Command, json_option, write_json
from unimoe.cli.tables import Column, print_next, print_table
from unimoe_tools.doctor.diagnosis import Diagnosis, Finding, diagnose
from unimoe_tools.doctor.evidence import gather
from unimoe_tools.units import size

_COLOURS = {"ok": "green", "missing": "yellow", "broken": "red"}


@click.command(cls=Command)
@json_option
def doctor(json_to: str | None) -> None:
    """See what this machine can run, and the next step for what is missing.

    The exit code is 0 if an engine on this machine can run bundles, else 1. Each driver and engine is probed in a
    separate process, so a crash becomes a finding.
    """
    diagnosis = diagnose(gather())
    if not write_json(diagnosis.to_dict(), json_to):
        _print(diagnosis)
    sys.exit(0 if diagnosis.can_run else 1)


def _print(diagnosis: Diagnosis) -> None:
    machine = diagnosis.machine
    lines = [machine["system"], machine["python"], f"{machine['cpu']}, {machine['cores']} cores"]
    lines[-1] += "".join(f", {name}" for name in machine["instructions"])
    if machine["memory_bytes"]:
        free = f", {size(machine['free_bytes'])} free" if machine["free_bytes"] else ""
        lines.append(f"{size(machine['memory_bytes'])} of memory{free}")
    lines += [machine["jetson"]] if machine["jetson"] else []
    for gpu in machine["gpus"]:
        capability = "{}.{}".format(*gpu["compute_capability"])
        shared = ", shared with the CPU" if gpu["integrated"] else ""
        lines.append(f"{gpu['name']}, compute capability {capability}, {size(gpu['memory_bytes'])}{shared}")
    click.echo("\n".join(lines))
    _print_findings("engines", diagnosis.engines)
    _print_findings("packages", diagnosis.extras)
    click.secho("\ntargets", bold=True)
    for fit in diagnosis.targets:
        others = f" (alike: {', '.join(fit.others)})" if fit.others else ""
        name = fit.closest or "no row has its compute capability; add one (docs/explanation/quantized-bundles.md)"
        click.echo(f"  {name}: {fit.device}{others}")
    verdict = "bundles can run here" if diagnosis.can_run else "no engine here can run a bundle: take a step above"
    click.echo(f"\n{verdict}")
    if diagnosis.can_run:
        print_next('`unimoe synth voices --text "…" -o out.wav`')


def _print_findings(title: str, findings: tuple[Finding, ...]) -> None:
    rows = []
    for finding in findings:
        state = "–" if finding.state == "idle" else finding.state
        step = "" if finding.step is None else f"\n→ {finding.step}"
        rows.append([finding.name, click.style(state, fg=_COLOURS.get(finding.state)), finding.detail + step])
    print_table([Column(title=""), Column(title=""), Column(title="", prose=True)], rows, title=title)
