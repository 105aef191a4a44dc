"""Kills writing commands at random moments: their output is complete or absent, and the next run cleans up.

After a kill the same command runs to its end. It must succeed and leave the files of an uninterrupted run and no
others. The commands run in forks of a process that has imported their modules, so that a kill meets the work and not
the imports. (`tests/cli/test_process.py` stops commands during their imports.)
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from tests.robustness.bases import Bases
from tests.robustness.forks import Fork, start_server
from tests.robustness.writers import WRITERS, Writer

# What a command says is a file as well, which must fit.
_FULL_AT_BYTES = (2000, 4096, 10_000, 30_000)
KINDS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass
class Killer:
    """Kills writers. `typical_s`: seconds of an uninterrupted run of each on this machine."""

    bases: Bases
    work: Path
    typical_s: dict[str, float] = field(default_factory=dict)
    _server: subprocess.Popen[str] = field(default_factory=start_server)

    def close(self) -> None:
        self._server.kill()
        self._server.wait()

    def kill(self, writer: Writer, rng: random.Random, number: int = signal.SIGKILL) -> str:
        """One kill and the run after it. Returns the fault; empty if there is none."""
        folder = self.work / "killed"
        argv = self._fresh(writer, folder)
        if writer.name not in self.typical_s:
            began = time.monotonic()
            code, told = self._start(writer, argv).wait(300)
            if code:
                return f"{writer.name}: fails without a kill: {told[-300:]}"
            self.typical_s[writer.name] = time.monotonic() - began
            argv = self._fresh(writer, folder)
        process = self._start(writer, argv)
        time.sleep(rng.uniform(0.02, 1.02) * self.typical_s[writer.name])
        process.send(number)
        code, told = process.wait(60)
        allowed = {0, 1, -number} if number == signal.SIGKILL else {0, 128 + number, -number}
        if "Traceback" in told or code not in allowed:
            return f"{writer.name}: signal {number}: exit code {code}: {told[-300:]}"
        if fault := self._next_run(writer, argv, folder, f"signal {number}", tidy=number != signal.SIGKILL):
            return fault
        left = {path.name for path in folder.iterdir()} - writer.given
        if left != writer.leaves:
            return f"{writer.name}: leaves {sorted(left)}"
        litter = _litter(folder)
        return f"{writer.name}: leaves {litter[0]}" if litter else ""

    def fill(self, writer: Writer, rng: random.Random) -> str:
        """One run in which no file can be larger than some size, as on a full disk, and one without the limit after it.

        Returns the fault; empty if there is none.
        """
        folder = self.work / "filled"
        argv = self._fresh(writer, folder)
        process = Fork(argv, writer.environment(self.bases), self._server, rng.choice(_FULL_AT_BYTES))
        code, told = process.wait(300)
        lines = [line for line in told.strip().splitlines() if line.startswith("unimoe: ")]
        if "Traceback" in told or code not in (0, 1) or (code == 1 and len(lines) != 1):
            return f"{writer.name}: full disk: exit code {code}: {told[-300:]}"
        if code == 1 and "/" not in lines[0]:
            return f"{writer.name}: full disk: does not say where: {lines[0]}"
        return self._next_run(writer, argv, folder, "full disk", tidy=True)

    def _next_run(self, writer: Writer, argv: list[str], folder: Path, after: str, *, tidy: bool) -> str:
        """Check the folder, with `tidy` also for litter, and run again. Returns the fault; empty if there is none."""
        try:
            writer.check(folder)
            if tidy and (litter := _litter(folder, writer.keeps)):
                return f"{writer.name}: {after} leaves {litter[0]}"
            code, told = self._start(writer, argv).wait(300)
            if code and not (writer.refuses and writer.refuses in told):
                return f"{writer.name}: the next run fails: {told[-300:]}"
            writer.check(folder)
        except Exception as error:
            return f"{writer.name}: {type(error).__name__}: {error}"
        return ""

    def _fresh(self, writer: Writer, folder: Path) -> list[str]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        writer.prepare(self.bases, folder)
        return writer.argv(self.bases, folder)

    def _start(self, writer: Writer, argv: list[str]) -> Fork:
        return Fork(argv, writer.environment(self.bases), self._server)


def _litter(folder: Path, kept: Collection[str] = ()) -> list[str]:
    """Hidden and partial files, without those that are `kept`."""
    paths = (path for path in folder.rglob("*") if path.name not in kept)
    return sorted(
        str(path.relative_to(folder))
        for path in paths
        if path.name.startswith(".") or ".partial" in path.name or path.name.endswith(".part")
    )


def writer_named(name: str) -> Writer:
    return next(writer for writer in WRITERS if writer.name == name)
