"""Files of JSON objects, one a line, that grow while their maker runs."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unimoe_runtime.errors import OutputError
from unimoe_runtime.files.text import read_lines, reason_of

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
    """A function that appends an object to a file at once. An incomplete last line stays separate.

    The file is locked. Raises OutputError where another process appends to it.
    """
    with path.open("a", encoding="utf-8") as lines:
        try:
            fcntl.flock(lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"{path}: another process is writing it; wait for that") from None
        except OSError:  # a file system without locks
            pass
        lines.write("\n" if _is_cut_off(path) else "")

        def write(line: Mapping[str, Any]) -> None:
            try:
                lines.write(json.dumps(line) + "\n")
                lines.flush()
            except OSError as error:
                raise OutputError(f"{path}: cannot be written ({reason_of(error)}); what it has is kept") from None

        yield write


def _is_cut_off(path: Path) -> bool:
    """Whether the file's last line has no end."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"
