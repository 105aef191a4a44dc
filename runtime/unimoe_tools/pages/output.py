"""Writing a result's file: complete under its name, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from unimoe_runtime.errors import OutputError
from unimoe_runtime.files.atomic import PartialFile


def write_output(path: Path, text: str) -> None:
    """Write a text file under a temporary name and rename it. Raises OutputError where writing fails."""
    try:
        partial = PartialFile(path)
        try:
            partial.path.write_text(text, encoding="utf-8")
            partial.keep()
        finally:
            partial.drop()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from None


def require_writable(path: Path) -> None:
    """Raise OutputError in advance where `write_output` could not write."""
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: cannot be written; choose a file name in a folder that exists and is yours")
