"""Interrupts a piece of work before each of its bytecodes, as a signal may."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest

from unimoe_runtime.files.locked_path import remove_noted


def interrupted_everywhere(
    work: Callable[[Path], object], folder: Path, traced: Sequence[ModuleType], *, stride: int
) -> Iterator[Path]:
    """Run `work` in a folder of its own for every `stride`th bytecode of the traced modules, and interrupt it there.

    Yields each folder, named after the bytecode, after what Python does at its exit.
    """
    files = {str(module.__file__) for module in traced}
    num_moments = 0
    for name in ("first", "whole"):  # the first run has further bytecodes: what a process does once
        whole = folder / name
        whole.mkdir(parents=True)
        num_moments = _steps_in(lambda: work(whole), files, 1 << 40)  # noqa: B023
    for moment in range(1, num_moments + 1, stride):
        place = folder / str(moment)
        place.mkdir()
        with pytest.raises(KeyboardInterrupt):
            _steps_in(lambda: work(place), files, moment)  # noqa: B023
        remove_noted()
        yield place


def _steps_in(work: Callable[[], object], files: set[str], stop_at: int) -> int:
    """Run `work` and raise KeyboardInterrupt, as a signal does, before one bytecode of the traced files.

    Returns the number of bytecodes; `stop_at` beyond it interrupts nothing.
    """
    done = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal done
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            done += 1
            if done == stop_at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return done
