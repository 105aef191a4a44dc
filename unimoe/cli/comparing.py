"""What `unimoe profile --against` and `--compare` print, and how they end."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from unimoe_tools.profiling import report as reports

_STYLES = {"slower": "red", "faster": "green", "too noisy to tell": "yellow"}
_DIGITS = {"rtf": 4}


def print_comparison(comparisons: Sequence[Mapping[str, Any]], json_path: Path | None) -> None:
    """A table for each pair of settings, and the JSON; exit code 1 where some measure is slower."""
    if json_path is not None:
        reports.write_output(json_path, reports.as_json({"comparisons": list(comparisons)}))
    console = Console()
    for comparison in comparisons:
        console.print(f"[bold]{comparison['candidate']}[/] against {comparison['reference']}", highlight=False)
        table = Table(box=None, padding=(0, 2, 0, 0))
        for index, column in enumerate(
            ("", "reference", "now", "ratio", f"{comparison['confidence']:.0%} interval", "")
        ):
            table.add_column(column, justify="right" if 0 < index < 5 else "left")
        for one in comparison["measures"]:
            digits = _DIGITS.get(one["measure"], 2)
            table.add_row(
                reports.COLUMNS.get(one["measure"], (one["measure"], 0))[0],
                f"{one['reference']:.{digits}f}",
                f"{one['candidate']:.{digits}f}",
                f"{one['ratio']:.3f}",
                f"{one['low']:.3f} – {one['high']:.3f}",
                one["verdict"],
                style=_STYLES.get(one["verdict"]),
            )
        console.print(table)
        for note in comparison["notes"]:
            console.print(note, highlight=False, style="yellow" if note.startswith("WARNING") else None)
    if any(comparison["slower"] for comparison in comparisons):
        sys.exit(1)
