"""A command's output file: complete under its name, or not at all."""

from __future__ import annotations

from pathlib import Path

from unimoe_runtime.errors import OutputError
from unimoe_runtime.files.atomic import PartialFile, write_atomically
from unimoe_runtime.files.text import reason_of


def write_output(path: Path, text: str) -> None:
    """Write a text file under a temporary name and rename it. Raises OutputError where writing fails."""
    try:
        write_atomically(path, text)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason_of(error)}); choose another place") from None


def require_writable(path: Path) -> None:
    """Raise OutputError in advance where `write_output` could not write: an empty file is made there and removed."""
    try:
        PartialFile(path).drop()
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({reason_of(error)}); choose a file name in a folder that exists and is yours"
        ) from None
