"""Paths that vanish with their process: a signal may come between any two steps of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import unimoe_runtime
from tests.interruptions import interrupted_everywhere
from tests.runtime.bundle.small_bundle import finish
from unimoe_runtime.audio import sinks
from unimoe_runtime.audio.sinks import WavSink
from unimoe_runtime.bundle import reservation, writer
from unimoe_runtime.bundle.reservation import Reservation
from unimoe_runtime.bundle.writer import BundleWriter
from unimoe_runtime.files import atomic, locked_path
from unimoe_runtime.files.atomic import PartialFile, staging_path, working_folder, write_atomically
from unimoe_runtime.files.locked_path import LockedPath, remove_noted

ROOT = Path(unimoe_runtime.__file__).parent
TRACED = (atomic, locked_path, sinks, reservation, writer)


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
    with Reservation(folder / "result", replace=True) as place, BundleWriter(place) as made:
        (made.directory / "part").write_text("x")
        made.add_file("part")
        finish(made)


def write_bundle_twice(folder: Path) -> None:
    write_bundle(folder)
    write_bundle(folder)


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
    for place in interrupted_everywhere(work, tmp_path, TRACED, stride=stride):
        left = [path for path in place.iterdir() if path.stem != "result"]
        assert not left, f"interrupted before bytecode {place.name}: {left[0].name} stays"
        folder = place / "result"
        assert not folder.exists() or any(folder.iterdir())


def test_the_exit_of_python_removes_what_is_left(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from unimoe_runtime.files import atomic, locked_path
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


def test_a_folder_that_another_process_removes_just_then_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.mkdir, list[object]()

    def mkdir(path: Path, *mode: int) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise FileExistsError(path)  # and it is gone when the caller looks
        real(path, *mode)

    monkeypatch.setattr(os, "mkdir", mkdir)
    held = LockedPath(tmp_path / "folder")
    held.make_folder(wait=True)
    assert held.path.is_dir() and len(calls) == 2
    held.remove()
    assert not held.path.exists()


@pytest.mark.parametrize("kind", ["file", "link to nothing"])
def test_what_is_no_folder_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "there"
    if kind == "file":
        path.touch()
    else:
        path.symlink_to(tmp_path / "nothing")
    with pytest.raises(OSError):
        LockedPath(path).make_folder(wait=True)
    assert os.path.lexists(path)
