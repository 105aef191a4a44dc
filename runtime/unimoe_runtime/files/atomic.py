"""Files and folders that appear under their name only when they are complete, and locks between processes."""

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
                raise OSError(errno.EINVAL, "a pipe or a device, not a file")
        if len(os.fsencode(self._target.name)) > 255:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        key = hashlib.sha256(os.fsencode(self._target.name)).hexdigest()[:12]
        prefix = f".unimoe-{key}-"
        suffix = self._target.suffix if len(self._target.suffix) <= 8 else ""
        while True:
            _remove_leftovers(self._target.parent, prefix)
            self.path = self._target.parent / f"{prefix}{secrets.token_hex(6)}{suffix}"
            try:
                self._lock = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            except OSError as error:  # about the file that was asked for, not about its temporary name
                raise OSError(error.errno, error.strerror, str(path)) from None
            if _locked(self._lock, self.path):
                return
            self._close()

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
    lock = lock_folder(path, wait=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


@contextmanager
def staging_path(path: Path, *, wait: bool) -> Iterator[Path]:
    """A free path with the name of `path`, in the hidden folder `.NAME.part` beside it. Write there, then rename.

    The folder is locked for the block and removed after it. What a killed process left there is removed. Raises
    BlockingIOError where another process holds the lock and `wait` is false, OSError where the folder cannot be made.
    """
    folder = path.with_name(f".{path.name}.part")
    lock = lock_folder(folder, wait=wait)
    try:
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        yield folder / path.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def lock_folder(path: Path, *, wait: bool) -> int:
    """Make a folder where it is missing, and lock it. Returns the lock's descriptor; closing it releases the lock.

    Raises BlockingIOError where another process holds the lock and `wait` is false, OSError where the folder cannot be
    made.
    """
    while True:
        path.mkdir(exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # another process has removed or renamed it meanwhile
        try:
            if _locked(descriptor, path, wait=wait):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _locked(descriptor: int, path: Path, *, wait: bool = True) -> bool:
    """Lock an open file or folder. False where another process has removed or renamed it before the lock.

    A file system without locks locks nothing: leftovers stay there.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return True
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def write_atomically(path: Path, text: str) -> None:
    """Write a text file completely or not at all. Raises OSError."""
    file = PartialFile(path)
    try:
        # A text may hold a file name that is not UTF-8: its bytes are escaped, as in JSON.
        file.path.write_text(text, encoding="utf-8", errors="backslashreplace")
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
