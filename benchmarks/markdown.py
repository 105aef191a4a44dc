"""Results of benchmarks as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> list[str]:
    """The lines of a table. With `numbers`, the columns after the first are aligned right."""
    rule = "| --- |" + (" ---: |" if numbers else " --- |") * (len(columns) - 1)
    first, *rest = (f"| {' | '.join(cells)} |" for cells in (columns, *rows))
    return [first, rule, *rest]


def figures_table(columns: Mapping[str, str], results: Iterable[Mapping[str, Any]]) -> list[str]:
    """The lines of a table of results. `columns`: title -> key of a result. Numbers have three digits."""
    rows = ((result[key] for key in columns.values()) for result in results)
    return table(list(columns), ([one if isinstance(one, str) else f"{one:.3g}" for one in row] for row in rows))


def machine_line(machine: Mapping[str, Any]) -> str:
    """A description of a machine (`describe_machine`) in one line."""
    return ", ".join(f"{key} {value}" for key, value in machine.items())


def result_table(result: Mapping[str, Any]) -> str:
    """One result as a table of two columns, without its machine."""

    def cell(value: Any) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{name} {count}" for name, count in value.items())
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    rows = [[name.replace("_", " "), cell(value)] for name, value in result.items() if name != "machine"]
    return "\n".join(table(["what", "found"], rows)) + "\n"
