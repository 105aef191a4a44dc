"""Several builder processes, each driven by its own thread."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unimoe_runtime.bundle.engine_sets import EngineRecord
from unimoe_runtime.errors import EngineError

from .jobs import Job

Outcome = tuple[Job, EngineRecord | None, str]
"""A job and its record; None where there is no engine, and the reason."""


class Workers:
    """Context manager: `num_workers` processes that build `jobs`. Leaving it ends them, even during a build."""

    def __init__(self, jobs: Sequence[Job], bundle: Path, folder: Path, flavour: str, num_workers: int) -> None:
        self._waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for job in jobs:
            self._waiting.put(job)
        self._count = len(jobs)
        self._order = {"bundle": str(bundle), "folder": str(folder), "flavour": flavour}
        self._outcomes: queue.SimpleQueue[Outcome | EngineError] = queue.SimpleQueue()
        self._processes = [_start() for _ in range(min(num_workers, self._count))]
        for process in self._processes:
            threading.Thread(target=self._feed, args=(process,), daemon=True).start()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def outcomes(self) -> Iterator[Outcome]:
        """Each job's outcome as soon as it is known. Raises EngineError where a file is damaged or cannot be written,
        or a process died."""
        for _ in range(self._count):
            outcome = self._outcomes.get()
            if isinstance(outcome, EngineError):
                raise outcome
            yield outcome

    def _feed(self, process: subprocess.Popen[str]) -> None:
        while True:
            try:
                job = self._waiting.get_nowait()
            except queue.Empty:
                return
            self._outcomes.put(self._run(process, job))

    def _run(self, process: subprocess.Popen[str], job: Job) -> Outcome | EngineError:
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps({**self._order, "job": asdict(job)}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            return EngineError(
                f"{job.key}: its builder died (exit code {process.wait()}); what is built stays: run it again, with "
                "--jobs 1 where memory was short"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            return EngineError(answer["error"])
        record = None if answer["record"] is None else EngineRecord.from_dict(answer["record"])
        return job, record, answer["problem"]


def _start() -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        encoding="utf-8",
        process_group=0,  # Ctrl-C reaches only the process that ends the others
    )
