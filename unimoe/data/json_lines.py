"""Files of JSON objects, one a line, that grow while their maker runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unimoe_runtime.errors import OutputError
from unimoe_runtime.files.text import read_lines

_MAX_BYTES = 4 << 30


def read_json_lines(path: Path, *needed: str) -> list[dict[str, Any]]:
    """Objects of a file; none where there is no file. An incomplete line, where a maker was killed, is skipped.

    Raises OutputError, one line, for a file in another encoding, and for a line that is no object with the fields
    `needed`.
    """
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(read_lines(path, OutputError, max_bytes=_MAX_BYTES), start=1):
        try:
            values = json.loads(line)
        except ValueError:
            continue
        except RecursionError:
            raise OutputError(f"{path}:{number}: is nested too deep") from None
        if not isinstance(values, dict) or not values.keys() >= set(needed):
            raise OutputError(f"{path}:{number}: is no object with {', '.join(needed)}; remove that line")
        found.append(values)
    return found


@contextmanager
def append_json_lines(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A function that appends an object to a file at once. An incomplete last line stays separate."""
    was_cut_off = path.exists() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
    with path.open("a", encoding="utf-8") as lines:
        lines.write("\n" if was_cut_off else "")

        def write(line: Mapping[str, Any]) -> None:
            lines.write(json.dumps(line) + "\n")
            lines.flush()

        yield write
