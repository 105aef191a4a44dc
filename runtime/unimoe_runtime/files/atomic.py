"""Files and folders that appear under their name only when they are complete."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unimoe_runtime.files.locked_path import LockedPath, remove_leftovers

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
                raise OSError(errno.EINVAL, "a pipe or a device, not a file")
        if len(os.fsencode(self._target.name)) > 255:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        key = hashlib.sha256(os.fsencode(self._target.name)).hexdigest()[:12]
        prefix = f".unimoe-{key}-"
        suffix = self._target.suffix if len(self._target.suffix) <= 8 else ""
        while True:
            remove_leftovers(self._target.parent, prefix)
            self.path = self._target.parent / f"{prefix}{secrets.token_hex(6)}{suffix}"
            self._made = LockedPath(self.path)
            try:
                if self._made.make_file():
                    return
            except OSError as error:  # about the file that was asked for, not about its temporary name
                raise OSError(error.errno, error.strerror, str(path)) from None

    def keep(self) -> None:
        """Rename the file to its final name, replacing an older file. Raises OSError."""
        self.path.replace(self._target)
        self._made.release()

    def drop(self) -> None:
        """Remove the file unless it was kept. Raises OSError."""
        self._made.remove()


@contextmanager
def working_folder(parent: Path, purpose: str) -> Iterator[Path]:
    """A hidden folder in `parent` for the duration of the block, locked while its process lives. Raises OSError.

    What a killed process left for the same purpose is removed.
    """
    prefix = f".unimoe-{purpose}-"
    remove_leftovers(parent, prefix)
    made = LockedPath(parent / f"{prefix}{secrets.token_hex(6)}")
    made.make_folder(wait=True)
    try:
        yield made.path
    finally:
        made.remove()


@contextmanager
def staging_path(path: Path, *, wait: bool) -> Iterator[Path]:
    """A free path with the name of `path`, in the hidden folder `.NAME.part` beside it. Write there, then rename.

    The folder is locked for the block and removed after it. What a killed process left there is removed. Raises
    BlockingIOError where another process holds the lock and `wait` is false, OSError where the folder cannot be made.
    """
    folder = path.with_name(f".{path.name}.part")
    made = LockedPath(folder)
    made.make_folder(wait=wait)
    try:
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        yield folder / path.name
    finally:
        made.remove()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` for the block, renamed to `path` at its end. An error in the block removes it.

    The temporary name is that of `PartialFile`. Raises OSError.
    """
    file = PartialFile(path)
    try:
        yield file.path
        file.keep()
    finally:
        file.drop()


def write_atomically(path: Path, text: str) -> None:
    """Write a text file completely or not at all. Raises OSError."""
    with atomic_file(path) as partial:
        # A text may hold a file name that is not UTF-8: its bytes are escaped, as in JSON.
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def exchange(first: Path, second: Path) -> bool:
    """Exchange two paths of one file system atomically; False if the kernel or the file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    arguments = (_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return bool(renameat2(*arguments) == 0)
