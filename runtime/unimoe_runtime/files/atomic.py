"""A file that appears under its name only when it is complete."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


class PartialFile:
    """A new file beside `path`, under a temporary name with the same suffix, until it is kept. Raises OSError."""

    def __init__(self, path: Path) -> None:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
        self.path, self._target = Path(name), path

    def keep(self) -> None:
        """Give it its name, in place of what was there. Raises OSError."""
        # mkstemp makes files for the owner alone; a result has the rights of any new file.
        mask = os.umask(0)
        os.umask(mask)
        self.path.chmod(0o666 & ~mask)
        self.path.replace(self._target)

    def drop(self) -> None:
        """Remove it; nothing where it was kept."""
        self.path.unlink(missing_ok=True)
