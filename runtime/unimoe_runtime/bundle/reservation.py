"""The target of a bundle that is being written: checked to be free, locked, and replaced when the bundle is complete.

    with Reservation(target, replace=True) as place:
        ...                                 # minutes of work, which a second writer cannot begin
        with BundleWriter(place) as writer:
            ...

Files are written to a hidden folder beside the target, `.NAME.part`. Its lock ends with the process, however that
ends. If the target is a link to a folder, the link stays and the folder it points to is replaced.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Self

from unimoe_runtime.bundle.manifest import MANIFEST
from unimoe_runtime.errors import OutputError
from unimoe_runtime.files.atomic import exchange, lock_folder
from unimoe_runtime.files.text import reason_of


class Reservation:
    """A bundle's target. Leaving the block gives it up; the next writer finds what a killed writer left there.

    Raises OutputError if the target exists (with `replace`, only if it is not a bundle), is the working folder, or is
    written by another process.
    """

    def __init__(self, target: Path, *, replace: bool = False) -> None:
        self.target, self.replace = target, replace
        self._lock = -1
        try:
            self._place = Path(os.path.realpath(target))
            self._require_elsewhere()
            self.directory = self._place.parent / f".{self._place.name}.part"
            self._old = self._place.parent / f".{self._place.name}.old"
            self._require_free()
            self._place.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self._acquire()
            self._recover()
            self._require_free()
        except (OSError, ValueError) as error:
            self.release()
            raise OutputError(f"{str(target)[:200]}: cannot be written here ({reason_of(error)})") from None
        except BaseException:
            self.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock >= 0:
            with suppress(OSError):
                self.directory.rmdir()  # only if it is empty
        self.release()

    def release(self) -> None:
        """Release the lock, so that other processes can write."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def take(self) -> None:
        """Put the hidden folder in the target's place, and remove what was there. Raises OSError.

        If the kernel supports it, the two are exchanged atomically. Otherwise the old bundle lies under `.NAME.old` for
        a moment. After a kill there, the next writer restores it, and the error of a reader says how.
        """
        if not self._place.exists():
            os.rename(self.directory, self._place)
        elif exchange(self.directory, self._place):
            shutil.rmtree(self.directory, ignore_errors=True)
        else:
            os.rename(self._place, self._old)
            os.rename(self.directory, self._place)
            shutil.rmtree(self._old, ignore_errors=True)

    def _require_elsewhere(self) -> None:
        here = Path(os.path.realpath(os.curdir))
        if here == self._place or here.is_relative_to(self._place):
            raise OutputError(
                f"{self.target}: is the folder that this runs in; name another, such as {here / 'bundle'}"
            )

    def _require_free(self) -> None:
        if not self._place.exists():
            return
        is_bundle = (self._place / MANIFEST).is_file()
        is_empty = self._place.is_dir() and not any(self._place.iterdir())
        if not is_empty and not (self.replace and is_bundle):
            advice = "pass --force to replace it" if is_bundle else "it is not a bundle; choose another name"
            raise OutputError(f"{self.target}: exists already; {advice}")

    def _acquire(self) -> int:
        """Make and lock the folder; returns its descriptor."""
        try:
            return lock_folder(self.directory, wait=False)
        except BlockingIOError:
            raise OutputError(
                f"{self.target}: another process is writing it; wait for that, or choose another name"
            ) from None

    def _recover(self) -> None:
        """Restore the old bundle that a writer killed between two renames left under its hidden name."""
        if self._old.exists() and not self._place.exists():
            os.rename(self._old, self._place)
        shutil.rmtree(self._old, ignore_errors=True)
