"""Paths that a process makes and locks, and that vanish with it.

A signal raises its exception between any two steps of Python: before the block that removes a temporary file has begun,
and in the middle of the removal. So a `LockedPath` is noted before the file or folder is made, until it is removed or
left to others. What is still noted when Python exits is removed then. After SIGKILL the lock is free, and the next
writer removes what it finds.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path

_noted: set[LockedPath] = set()


class LockedPath:
    """A file or folder that this process makes and locks. Make it once, then call `remove` or `release`.

    `disposable`: a folder is removed with its content. Otherwise it is removed only where it is empty.
    """

    def __init__(self, path: Path, *, disposable: bool = True) -> None:
        self.path, self.disposable = path, disposable
        self._lock, self._process = -1, os.getpid()
        _watch_exit()
        _noted.add(self)

    def make_file(self) -> bool:
        """Make a new file. False where another process has removed it before it was locked. Raises OSError."""
        try:
            self._lock = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError:
            self.release()
            raise
        if self._is_locked(wait=True):
            return True
        self.release()
        return False

    def make_folder(self, *, wait: bool) -> None:
        """Make the folder where it is missing, and lock it.

        Raises BlockingIOError where another process holds the lock and `wait` is false, OSError where the folder cannot
        be made.
        """
        try:
            while True:
                try:  # not with exist_ok, which raises where another process removes the folder meanwhile
                    self.path.mkdir()
                except FileExistsError:
                    if self.path.is_symlink() and not self.path.exists():  # it leads nowhere, and stays
                        raise
                with suppress(FileNotFoundError):  # another process has removed or renamed it meanwhile
                    self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    if self._is_locked(wait=wait):
                        return
                    self._close()
        except OSError:
            self.release()
            raise

    def remove(self) -> None:
        """Remove what was made, unless it was released. Raises OSError for a file that cannot be removed."""
        if self in _noted:
            _remove(self.path, with_content=self.disposable)
            self.release()

    def release(self) -> None:
        """Leave what is at the path to others."""
        _noted.discard(self)
        self._close()

    def remove_at_exit(self) -> None:
        """Remove what is at the path unless another process has it. A forked process leaves its parent's alone."""
        self.release()
        if self._process == os.getpid():
            with suppress(OSError):
                _remove_unlocked(self.path, with_content=self.disposable)

    def _is_locked(self, *, wait: bool) -> bool:
        """Lock the open file or folder. False where another process has removed or renamed it before the lock.

        A file system without locks locks nothing: leftovers stay there.
        """
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            return True
        return _is_at(self._lock, self.path)

    def _close(self) -> None:
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def remove_leftovers(folder: Path, prefix: str) -> None:
    """Remove the files and folders with this prefix that no living process has locked."""
    for name in os.listdir(folder):
        if name.startswith(prefix):
            with suppress(OSError):
                _remove_unlocked(folder / name, with_content=True)


def remove_noted() -> None:
    """Remove what this process has made and neither removed nor released. Python's exit calls it."""
    for path in list(_noted):
        path.remove_at_exit()


@cache
def _watch_exit() -> None:
    atexit.register(remove_noted)


def _remove_unlocked(path: Path, *, with_content: bool) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(descriptor, path):
            _remove(path, with_content=with_content)
    finally:
        os.close(descriptor)


def _remove(path: Path, *, with_content: bool) -> None:
    if not path.is_dir():
        path.unlink(missing_ok=True)
    elif with_content:
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.rmdir()


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
