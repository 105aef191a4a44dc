"""One process writes a folder at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unimoe_runtime.errors import OutputError
from unimoe_runtime.files.atomic import lock_folder


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Make `folder` where it is missing, and lock it for the block.

    The lock ends with the process, however that ends. Raises OutputError where another process holds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = lock_folder(folder, wait=False)
    except BlockingIOError:
        raise OutputError(f"{folder}: another process is writing it; wait for that, or choose another folder") from None
    try:
        yield
    finally:
        os.close(lock)
