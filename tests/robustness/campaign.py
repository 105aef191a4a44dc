"""A campaign: runs many cases in worker processes, classifies each outcome, and makes the table.

Classes: "refused" (exit 1 with one line, or a usage error), "same audio" (that of the valid input, to the bit,
or only a report), "as told" (other audio that the changed bundle or option really describes, all of it finite), and
"other": a traceback, a crash, a hang, too much memory, leftover files, or wrong audio with exit code 0.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.robustness.bases import Bases, write_bases
from tests.robustness.cases import Case, draw_case

MEMORY_BYTES = 1 << 30
TIME_S = 10.0
"""CPU seconds. A process without output for `_SILENT_S` of wall time hangs."""
_SILENT_S = 90.0
CLASSES = ("refused", "same audio", "as told", "other")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a case. `reason` explains one of class "other"."""

    seed: int
    case: Case
    kind: str
    reason: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0
    said: str = ""


class Worker:
    """A process that runs cases. It is restarted after a case that did not return."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, argv: Iterable[str]) -> dict[str, Any]:
        """The command's outcome; {"died": why} if the process ended or was killed."""
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        timer = threading.Timer(_SILENT_S, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps({"id": 0, "argv": list(argv)}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        late = not timer.is_alive()
        timer.cancel()
        if line:
            answer: dict[str, Any] = json.loads(line)
            if answer["ends"]:
                self.close()
            return answer
        self.close()
        return {"died": "hangs" if late else f"the process ended with {process.returncode}"}

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.robustness.worker", str(MEMORY_BYTES)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the worker does not start")
        return self._process


@dataclass
class Campaign:
    """Runs the cases of seeds. `keep`: the folder that keeps cases of class "other". `only`: names of mutators."""

    work: Path
    keep: Path | None = None
    only: Sequence[str] = ()
    worker: Worker = field(default_factory=Worker)
    _references: dict[tuple[str, ...], np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bases: Bases = write_bases(self.work / "bases")

    def run(self, seed: int) -> Outcome:
        folder = self.work / f"case-{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        case = draw_case(self.bases, folder, seed, self.only)
        before = _names(folder)
        answer = self.worker.run(case.argv)
        kind, reason = self._judge(case, answer, _names(folder) - before)
        if kind == "other" and self.keep is not None:
            shutil.rmtree(self.keep / str(seed), ignore_errors=True)
            self.keep.mkdir(parents=True, exist_ok=True)
            shutil.move(folder, self.keep / str(seed))
        return Outcome(
            seed=seed, case=case, kind=kind, reason=reason, seconds=answer.get("seconds", 0.0),
            peak_bytes=answer.get("peak", 0), said=answer.get("stderr", "")[-300:],
        )  # fmt: skip

    def _judge(self, case: Case, answer: dict[str, Any], new: set[str]) -> tuple[str, str]:
        if "died" in answer:
            return "other", answer["died"]
        if answer["seconds"] > TIME_S:
            return "other", f"takes {answer['seconds']:.1f} s"
        if answer["peak"] > MEMORY_BYTES or "not enough memory" in answer["stderr"]:
            return "other", f"takes {answer['peak'] / 1e6:.0f} MB"
        litter = sorted(name for name in new if Path(name).name.startswith("."))
        if litter:
            return "other", f"leaves {litter[0]}"
        lines = [line for line in answer["stderr"].strip().splitlines() if not line.startswith("warm: ")]
        match answer["code"]:
            case 1 if len(lines) == 1 and lines[0].startswith("unimoe: "):
                return "refused", ""
            case 2 if lines and lines[-1].startswith("Error: ") and "Traceback" not in answer["stderr"]:
                return "refused", ""
            case 1 if "verify" in case.argv and not lines:
                return "same audio", ""  # a report of a failed verification
            case 0 if "Traceback" not in answer["stderr"] and "RuntimeWarning" not in answer["stderr"]:
                return self._judge_audio(case)
        return "other", f"exit code {answer['code']}: {(lines or ['nothing said'])[-1]}"[:200]

    def _judge_audio(self, case: Case) -> tuple[str, str]:
        if case.audio is None:
            return ("same audio", "") if case.free else ("other", "accepted")
        try:
            pcm_L, _ = soundfile.read(os.fsencode(case.audio), dtype="float32")
        except (soundfile.LibsndfileError, OSError) as error:
            return "other", f"exit code 0, and no audio: {error}"
        if case.reference and np.array_equal(pcm_L, self._reference(case)):
            return "same audio", ""
        if case.free and len(pcm_L) and np.isfinite(pcm_L).all():
            return "as told", ""
        return "other", "other audio, with exit code 0"

    def _reference(self, case: Case) -> np.ndarray:
        found = self._references.get(case.reference)
        if found is None:
            out = self.work / "reference.wav"
            bundle = (
                self.bases.published
                if "--voice-text" in case.reference or "ann" in case.reference
                else self.bases.bundle
            )
            answer = self.worker.run(["synth", str(bundle), *case.reference, "--seed", "3", "-o", str(out)])
            if answer.get("code") != 0:
                raise RuntimeError(f"the sound input is refused: {answer}")
            found = self._references[case.reference] = soundfile.read(out, dtype="float32")[0]
        return found


def _names(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def table(outcomes: Iterable[Outcome]) -> str:
    """Markdown: the number of cases by format and class."""
    counts: Counter[tuple[str, str]] = Counter((outcome.case.format, outcome.kind) for outcome in outcomes)
    return format_counts(counts)


def format_counts(counts: Counter[tuple[str, str]]) -> str:
    formats = sorted({format for format, _ in counts})
    rows = [
        "| format | attempted | refused | same audio | as told | other |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    cells: Callable[[str], list[int]] = lambda format: [counts[format, kind] for kind in CLASSES]
    for format in formats:
        rows.append(
            f"| {format} | {sum(cells(format)):,} | " + " | ".join(f"{count:,}" for count in cells(format)) + " |"
        )
    totals = [sum(counts[format, kind] for format in formats) for kind in CLASSES]
    rows.append(f"| all | {sum(totals):,} | " + " | ".join(f"{count:,}" for count in totals) + " |")
    return "\n".join(rows)
