"""A file that appears under its name only when it is complete, and folders that change places at once."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class PartialFile:
    """A new file beside `path`, under a temporary name with the same suffix, until it is kept. Raises OSError.

    The temporary name begins with ".unimoe-" and stands for `path`, and the file is locked as long as its process
    lives: what a killed process left is found by the next that writes the same file, and removed.
    """

    def __init__(self, path: Path) -> None:
        # Through a link to what it points to; a pipe or a device would be replaced by the file.
        self._target = Path(os.path.realpath(path))
        with suppress(FileNotFoundError):
            mode = self._target.stat().st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(mode):
                raise OSError(errno.EINVAL, "is no regular file")
        if len(os.fsencode(self._target.name)) > 255:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        key = hashlib.sha256(os.fsencode(self._target.name)).hexdigest()[:12]
        prefix = f".unimoe-{key}-"
        _remove_leftovers(self._target.parent, prefix)
        suffix = self._target.suffix if len(self._target.suffix) <= 8 else ""
        self.path = self._target.parent / f"{prefix}{secrets.token_hex(6)}{suffix}"
        self._lock = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with suppress(OSError):  # a file system without locks: its leftovers stay
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def keep(self) -> None:
        """Give it its name, in place of what was there. Raises OSError."""
        self.path.replace(self._target)
        self._close()

    def drop(self) -> None:
        """Remove it; nothing where it was kept."""
        self.path.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _remove_leftovers(folder: Path, prefix: str) -> None:
    for name in os.listdir(folder):
        if name.startswith(prefix):
            with suppress(OSError):
                descriptor = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(folder / name)
                finally:
                    os.close(descriptor)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file that is there whole or not at all. Raises OSError."""
    file = PartialFile(path)
    try:
        file.path.write_text(text, encoding="utf-8")
        file.keep()
    finally:
        file.drop()


def exchange(first: Path, second: Path) -> bool:
    """Let two paths of one file system change places at once; False where the kernel or the file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    arguments = (_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return bool(renameat2(*arguments) == 0)
