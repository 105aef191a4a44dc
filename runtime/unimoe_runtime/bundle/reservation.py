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
from pathlib import Path
from typing import Self

from unimoe_runtime.bundle.manifest import MANIFEST
from unimoe_runtime.errors import OutputError
from unimoe_runtime.files.atomic import exchange
from unimoe_runtime.files.locked_path import LockedPath
from unimoe_runtime.files.text import reason_of


class Reservation:
    """A bundle's target. Leaving the block gives it up; the next writer finds what a killed writer left there.

    Raises OutputError if the target exists (with `replace`, only if it is not a bundle), is the working folder, or is
    written by another process.
    """

    def __init__(self, target: Path, *, replace: bool = False) -> None:
        self.target, self.replace = target, replace
        try:
            self._place = Path(os.path.realpath(target))
            self._require_elsewhere()
            self.directory = self._place.parent / f".{self._place.name}.part"
            self._old = self._place.parent / f".{self._place.name}.old"
            self._require_free()
            self._place.parent.mkdir(parents=True, exist_ok=True)
            # What a killed writer left stays until a `BundleWriter` begins, which may go on with it.
            self._hidden = LockedPath(self.directory, disposable=False)
            self._acquire()
            try:
                self._recover()
                self._require_free()
            except BaseException:
                self.give_up()
                raise
        except (OSError, ValueError) as error:
            raise OutputError(f"{str(target)[:200]}: cannot be written here ({reason_of(error)})") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_up()

    def begin(self) -> None:
        """From now on `give_up` also removes what is in the hidden folder."""
        self._hidden.disposable = True

    def give_up(self) -> None:
        """Let other processes write. Removes the hidden folder unless the target took it."""
        self._hidden.remove()

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
        self._hidden.release()

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

    def _acquire(self) -> None:
        """Make and lock the folder."""
        try:
            self._hidden.make_folder(wait=False)
        except BlockingIOError:
            raise OutputError(
                f"{self.target}: another process is writing it; wait for that, or choose another name"
            ) from None

    def _recover(self) -> None:
        """Restore the old bundle that a writer killed between two renames left under its hidden name."""
        if self._old.exists() and not self._place.exists():
            os.rename(self._old, self._place)
        shutil.rmtree(self._old, ignore_errors=True)
