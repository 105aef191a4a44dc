"""The table of a candidate's figures beside its reference: the same after `unimoe verify` and `unimoe calibrate`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from unimoe.cli.tables import columns, print_table
from unimoe_tools.parity.limits import Figure


def print_figures(figures: Sequence[Figure], title: str) -> None:
    """Print each figure with its interval, limit and verdict, and its meaning with the value to compare it with."""
    rows = [
        (one.name, f"{one.value:.4g}", one.interval, one.bound, coloured(one.verdict), one.explanation)
        for one in figures
    ]
    titles = ("figure", "value", "95 % interval", "limit", "", "of what")
    print_table(columns(*titles, prose=("of what",), left=("",)), rows, title=title)


def coloured(verdict: str) -> str:
    """A verdict, red if it fails."""
    return click.style(verdict, fg="red", bold=True) if verdict == "FAILS" else verdict
