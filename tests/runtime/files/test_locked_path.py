"""Paths that vanish with their process: a signal may come between any two steps of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import unimoe_runtime
from tests.runtime.bundle.small_bundle import finish
from unimoe_runtime.audio.sinks import WavSink
from unimoe_runtime.bundle.reservation import Reservation
from unimoe_runtime.bundle.writer import BundleWriter
from unimoe_runtime.files.atomic import PartialFile, staging_path, working_folder, write_atomically
from unimoe_runtime.files.locked_path import LockedPath, remove_noted

ROOT = Path(unimoe_runtime.__file__).parent
TRACED = {str(ROOT / name) for name in (
    "files/atomic.py", "files/locked_path.py", "audio/sinks.py", "bundle/reservation.py", "bundle/writer.py",
)}  # fmt: skip


def write_text(folder: Path) -> None:
    write_atomically(folder / "result.txt", "whole")


def probe(folder: Path) -> None:
    PartialFile(folder / "result.txt").drop()


def write_stream(folder: Path) -> None:
    with WavSink(folder / "result.wav", 16_000) as sink:
        sink.write(np.zeros(100, np.float32))
        sink.finish()


def work_in_a_folder(folder: Path) -> None:
    with working_folder(folder, "mixing") as working:
        (working / "inner").mkdir()
        (working / "inner" / "file").write_text("x")


def stage(folder: Path) -> None:
    with staging_path(folder / "result", wait=False) as staging:
        staging.mkdir()
        (staging / "file").write_text("x")
        staging.rename(folder / "result")


def write_bundle(folder: Path) -> None:
    with Reservation(folder / "result", replace=True) as place, BundleWriter(place) as writer:
        (writer.directory / "part").write_text("x")
        writer.add_file("part")
        finish(writer)


def write_bundle_twice(folder: Path) -> None:
    write_bundle(folder)
    write_bundle(folder)


def steps_in(work: Callable[[], object], stop_at: int) -> int:
    """Run `work` and raise KeyboardInterrupt, as a signal does, before one bytecode of the traced modules.

    Returns the number of bytecodes; `stop_at` beyond it interrupts nothing.
    """
    done = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal done
        if frame.f_code.co_filename not in TRACED:
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


def interruptions(work: Callable[[Path], None], folder: Path, *, stride: int) -> Iterator[int]:
    """Every `stride`th moment at which a signal can come; yields after what Python does at its exit."""
    whole = folder / "whole"
    whole.mkdir(parents=True)
    for moment in range(1, steps_in(lambda: work(whole), 1 << 40) + 1, stride):
        place = folder / str(moment)
        place.mkdir()
        with pytest.raises(KeyboardInterrupt):
            steps_in(lambda: work(place), moment)  # noqa: B023
        remove_noted()
        yield moment


@pytest.mark.parametrize(
    ("work", "stride"),
    [
        (write_text, 1), (probe, 1), (write_stream, 3), (work_in_a_folder, 1), (stage, 1), (write_bundle, 7),
        (write_bundle_twice, 13),
    ],
)  # fmt: skip
def test_a_signal_at_any_moment_leaves_the_result_or_nothing(
    work: Callable[[Path], None], stride: int, tmp_path: Path
) -> None:
    for moment in interruptions(work, tmp_path, stride=stride):
        left = [path for path in (tmp_path / str(moment)).iterdir() if path.stem != "result"]
        assert not left, f"interrupted before bytecode {moment}: {left[0].name} stays"
        folder = tmp_path / str(moment) / "result"
        assert not folder.exists() or any(folder.iterdir())


def test_the_exit_of_python_removes_what_is_left(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from unimoe_runtime.files.atomic import PartialFile
PartialFile(Path({str(tmp_path)!r}, "a.wav")).path.write_text("half")
raise KeyboardInterrupt
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in done.stderr and list(tmp_path.iterdir()) == []


def test_a_fork_and_another_holder_keep_theirs(tmp_path: Path) -> None:
    ours = PartialFile(tmp_path / "a.wav")
    child = os.fork()
    if not child:
        remove_noted()
        os._exit(0)
    os.waitpid(child, 0)
    assert ours.path.exists()
    ours.drop()
    waiting, held = LockedPath(tmp_path / "folder"), LockedPath(tmp_path / "folder")
    held.make_folder(wait=False)
    (tmp_path / "folder" / "file").touch()
    waiting.remove_at_exit()
    assert (tmp_path / "folder" / "file").exists(), "another one holds its lock"
    held.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_has_one_holder(tmp_path: Path) -> None:
    first = LockedPath(tmp_path / "folder", disposable=False)
    first.make_folder(wait=False)
    (tmp_path / "folder" / "file").touch()
    with pytest.raises(BlockingIOError):
        LockedPath(tmp_path / "folder").make_folder(wait=False)
    first.remove()
    assert (tmp_path / "folder" / "file").exists(), "only an empty folder is removed"
    second = LockedPath(tmp_path / "folder")
    second.make_folder(wait=False)
    second.remove()
    assert list(tmp_path.iterdir()) == []
