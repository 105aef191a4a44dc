"""Kills writing commands at random moments: their output is complete or absent, and the next run cleans up.

After a SIGKILL the same command runs to its end. It must succeed and leave the files of an uninterrupted run and no
others in the folder.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.robustness.bases import MUSIC, Bases

_TINY_RECIPE = """
[data]
digit_strings = {}
phrases = {}
commands_per_voice = 0
melodies = { piano = 6 }
"""


@dataclass(frozen=True, kw_only=True)
class Writer:
    """A command that writes: its arguments for a folder, and a check of the folder after a kill or at the end."""

    name: str
    argv: Callable[[Bases, Path], list[str]]
    check: Callable[[Path], None]
    leaves: set[str]


def _opens(bundle: Path) -> None:
    from unimoe_runtime.bundle.reader import open_bundle

    if bundle.exists():
        list(open_bundle(bundle).check_all())


def _plays(path: Path) -> None:
    import soundfile

    if path.exists():
        assert soundfile.info(path).frames > 0


def _is_corpus(folder: Path) -> None:
    from unimoe.data.corpus import Corpus

    if (folder / "index.jsonl").exists():
        Corpus.open(folder)


def _recipe(folder: Path) -> str:
    path = folder.parent / f"{folder.name}.toml"
    path.write_text(_TINY_RECIPE)
    return str(path)


WRITERS = (
    Writer(
        name="export",
        argv=lambda bases, folder: ["export", str(bases.checkpoint), str(folder / "made"), "--force"],
        check=lambda folder: _opens(folder / "made"),
        leaves={"made"},
    ),
    Writer(
        name="calibrate",
        argv=lambda bases, folder: [
            "calibrate", str(bases.bundle), str(folder / "made"), "--force", "--floor", "1", "--data",
            str(bases.folder / "list.jsonl"), "--cache", str(folder.parent / "cache"),
        ],
        check=lambda folder: _opens(folder / "made"),
        leaves={"made"},
    ),
    Writer(
        name="synth",
        argv=lambda bases, folder: ["synth", str(bases.bundle), *MUSIC, "-o", str(folder / "out.wav")],
        check=lambda folder: _plays(folder / "out.wav"),
        leaves={"out.wav"},
    ),
    Writer(
        name="synth --stream",
        argv=lambda bases, folder: ["synth", str(bases.bundle), *MUSIC, "--stream", "-o", str(folder / "out.wav")],
        check=lambda folder: _plays(folder / "out.wav"),
        leaves={"out.wav"},
    ),
    Writer(
        name="data render",
        argv=lambda bases, folder: ["data", "render", _recipe(folder), str(folder / "corpus"), "--workers", "1"],
        check=lambda folder: _is_corpus(folder / "corpus"),
        leaves={"corpus"},
    ),
)  # fmt: skip


@dataclass
class Killer:
    """Kills writers. `typical_s`: seconds of an uninterrupted run of each on this machine."""

    bases: Bases
    work: Path
    typical_s: dict[str, float] = field(default_factory=dict)

    def kill(self, writer: Writer, rng: random.Random, number: int = signal.SIGKILL) -> str:
        """One kill and the run after it. Returns the fault; empty if there is none."""
        folder = self.work / "killed"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        argv = writer.argv(self.bases, folder)
        if writer.name not in self.typical_s:
            began = time.monotonic()
            self._run(argv).wait()
            self.typical_s[writer.name] = time.monotonic() - began
            shutil.rmtree(folder)
            folder.mkdir()
        process = self._run(argv)
        time.sleep(rng.uniform(0.1, 1.05) * self.typical_s[writer.name])
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
        if number != signal.SIGKILL and "Traceback" in told:
            return f"{writer.name}: a traceback after signal {number}"
        try:
            writer.check(folder)
            if number != signal.SIGKILL and (litter := [path.name for path in folder.iterdir() if path.name[0] == "."]):
                return f"{writer.name}: signal {number} leaves {litter[0]}"
            process = self._run(argv)
            _, told = process.communicate(timeout=120)
            if process.returncode:
                return f"{writer.name}: the next run fails: {told[-200:]}"
            writer.check(folder)
        except Exception as error:
            return f"{writer.name}: {type(error).__name__}: {error}"
        left = {path.name for path in folder.iterdir()}
        return "" if left == writer.leaves else f"{writer.name}: leaves {sorted(left)}"

    def _run(self, argv: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "unimoe.cli", *argv], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )


def prepare(bases: Bases) -> None:
    """Write the list that calibrations read."""
    (bases.folder / "list.jsonl").write_text('{"task": "music", "text": "flute, 120 bpm: C4 E4"}\n')
