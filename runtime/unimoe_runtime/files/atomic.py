"""A file that appears under its name only when it is complete, and the atomic exchange of two folders."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class PartialFile:
    """A new file beside `path`, under a temporary name with the same suffix, until it is kept. Raises OSError.

    The temporary name begins with ".unimoe-" and is derived from `path`. The file is locked while its process lives, so
    the next process that writes the same file finds and removes what a killed process left.
    """

    def __init__(self, path: Path) -> None:
        # A link is followed to its target. A pipe or a device would be replaced by the file.
        self._target = Path(os.path.realpath(path))
        with suppress(FileNotFoundError):
            mode = self._target.stat().st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(mode):
                raise OSError(errno.EINVAL, "a pipe or a device, no file")
        if len(os.fsencode(self._target.name)) > 255:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        key = hashlib.sha256(os.fsencode(self._target.name)).hexdigest()[:12]
        prefix = f".unimoe-{key}-"
        _remove_leftovers(self._target.parent, prefix)
        suffix = self._target.suffix if len(self._target.suffix) <= 8 else ""
        self.path = self._target.parent / f"{prefix}{secrets.token_hex(6)}{suffix}"
        self._lock = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with suppress(OSError):  # on a file system without locks, leftovers stay
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def keep(self) -> None:
        """Rename the file to its final name, replacing an older file. Raises OSError."""
        self.path.replace(self._target)
        self._close()

    def drop(self) -> None:
        """Remove the file unless it was kept."""
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
                    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                        shutil.rmtree(folder / name)
                    else:
                        os.unlink(folder / name)
                finally:
                    os.close(descriptor)


@contextmanager
def working_folder(parent: Path, purpose: str) -> Iterator[Path]:
    """A hidden folder in `parent` for the duration of the block, locked while its process lives. Raises OSError.

    What a killed process left for the same purpose is removed.
    """
    prefix = f".unimoe-{purpose}-"
    _remove_leftovers(parent, prefix)
    path = parent / f"{prefix}{secrets.token_hex(6)}"
    path.mkdir()
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # on a file system without locks, leftovers stay
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file completely or not at all. Raises OSError."""
    file = PartialFile(path)
    try:
        file.path.write_text(text, encoding="utf-8")
        file.keep()
    finally:
        file.drop()


def exchange(first: Path, second: Path) -> bool:
    """Exchange two paths of one file system atomically; False if the kernel or the file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    arguments = (_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return bool(renameat2(*arguments) == 0)
