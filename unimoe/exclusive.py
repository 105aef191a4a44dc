"""One process writes a folder at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unimoe_runtime.errors import OutputError
from unimoe_runtime.files.locked_path import LockedPath


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Make `folder` where it is missing, and lock it for the block. A block that fails leaves no new empty folder.

    The lock ends with the process, however that ends. Raises OutputError where another process holds it.
    """
    is_new = not folder.exists()
    folder.parent.mkdir(parents=True, exist_ok=True)
    held = LockedPath(folder, disposable=False)
    try:
        held.make_folder(wait=False)
    except BlockingIOError:
        raise OutputError(f"{folder}: another process is writing it; wait for that, or choose another folder") from None
    try:
        yield
    except BaseException:
        if is_new:
            held.remove()
        raise
    finally:
        held.release()
