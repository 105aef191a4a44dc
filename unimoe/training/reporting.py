"""Writes a run's figures: to metrics.jsonl, to TensorBoard where it is installed, and to the progress bar."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from unimoe.bars import progress_bars
from unimoe_runtime.files.atomic import write_atomically

_NOTES = {
    "loss_speech": "speech {:.2f}",
    "loss_music": "music {:.2f}",
    "guide": "guide {:.2f}",
    "experts_picked": "picked {:.2f}",
    "null_share": "null {:.0%}",
}


class Reporter:
    """Figures of a run in `folder`, shown as `title`. A `silent` reporter (of any process but the first) does nothing.

    A run that resumes from a save drops the lines of the steps that it repeats.
    """

    def __init__(self, folder: Path, title: str, *, step: int, num_steps: int, silent: bool) -> None:
        self._silent = silent
        self._started = time.monotonic()
        self._tokens = 0.0
        if silent:
            return
        path = folder / "metrics.jsonl"
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= step]
        write_atomically(path, "".join(f"{line}\n" for line in kept))
        self._log = path.open("a", encoding="utf-8")
        self._board = _open_board(folder, step)
        columns = (TextColumn("{task.description} {task.percentage:.0f}%"), BarColumn(16), TimeRemainingColumn())
        self._progress = progress_bars(*columns, TextColumn("{task.fields[note]}"))
        self._task = self._progress.add_task(title, total=num_steps, completed=step, note="")
        if not self._progress.console.is_terminal and step < num_steps:  # a log has no bar: it names the stage
            Console(stderr=True).print(f"{title}: steps {step:,} to {num_steps:,}", highlight=False, markup=False)

    def __enter__(self) -> Self:
        if not self._silent:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: Any, trace: TracebackType | None) -> None:
        if not self._silent:
            self._progress.stop()
            self._log.close()
            if self._board is not None:
                self._board.close()

    def advance(self, step: int, num_tokens: float, figures: Mapping[str, float] | None) -> None:
        """Count one finished step, and write its figures if there are any."""
        if self._silent:
            return
        self._tokens += num_tokens
        self._progress.update(self._task, completed=step)
        if figures is None:
            return
        seconds = time.monotonic() - self._started
        record = {"step": step, "tokens_per_s": round(self._tokens / seconds, 1), "elapsed_s": round(seconds, 2)}
        record |= {name: round(value, 6) for name, value in figures.items()}
        self._log.write(json.dumps(record) + "\n")
        self._log.flush()
        if self._board is not None:
            for name, number in record.items():
                if name != "step":
                    self._board.add_scalar(name, number, step)
        self._progress.update(self._task, note=_note(record))


def _note(record: Mapping[str, float]) -> str:
    parts = [shown.format(record[name]) for name, shown in _NOTES.items() if name in record]
    if "load_smallest" in record:
        parts.append(f"load {100 * record['load_smallest']:.0f}-{100 * record['load_largest']:.0f}%")
    return " ".join([*parts, f"{record['tokens_per_s']:.0f} tokens/s"])


def _lines(path: Path) -> list[str]:
    """Complete lines. A killed run may have left an incomplete one."""
    if not path.exists():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def _open_board(folder: Path, step: int) -> Any:
    """TensorBoard's writer, or None, with one message, where the package is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        _say_without_board()
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)


@cache
def _say_without_board() -> None:
    """Once for all stages of a run."""
    Console(stderr=True).print("TensorBoard is not installed: figures go to metrics.jsonl alone", highlight=False)
