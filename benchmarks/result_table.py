"""One result as a Markdown table of two columns."""

from __future__ import annotations

from typing import Any


def markdown(result: dict[str, Any]) -> str:
    """The result as a table of two columns."""

    def cell(value: Any) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{name} {count}" for name, count in value.items())
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    rows = [f"| {name.replace('_', ' ')} | {cell(value)} |" for name, value in result.items() if name != "machine"]
    return "\n".join(["| what | found |", "| --- | --- |", *rows]) + "\n"
