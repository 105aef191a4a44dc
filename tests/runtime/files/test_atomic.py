"""Files that appear complete or not at all, and the leftovers of a killed process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from unimoe_runtime.files.atomic import (
    PartialFile,
    exchange,
    staging_path,
    working_folder,
    write_atomically,
)

ROOT = Path(__file__).parents[3]
KILLED = """
import os, signal, sys
from pathlib import Path
from unimoe_runtime.files.atomic import PartialFile
PartialFile(Path(sys.argv[1])).path.write_text("half")
os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_kept_or_dropped(tmp_path: Path) -> None:
    for keep in (False, True):
        file = PartialFile(tmp_path / "a.wav")
        file.path.write_text("new")
        assert file.path.suffix == ".wav" and not (tmp_path / "a.wav").exists()
        if keep:
            file.keep()
        file.drop()
    assert names(tmp_path) == ["a.wav"] and (tmp_path / "a.wav").stat().st_mode & 0o777 == 0o666 & ~_umask()


def test_what_a_killed_process_left_is_removed_and_another_writers_is_not(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runtime")}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.wav")], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL and len(names(tmp_path)) == 1
    at_work = PartialFile(tmp_path / "b.wav")
    again = PartialFile(tmp_path / "b.wav")
    write_atomically(tmp_path / "a.wav", "whole")
    assert names(tmp_path) == sorted([at_work.path.name, again.path.name, "a.wav"])
    at_work.drop()
    again.drop()
    assert names(tmp_path) == ["a.wav"]


def test_through_a_link_and_never_over_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_atomically(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "text"
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "x" * 300):
        with pytest.raises(OSError, match=r"a pipe or a device|too long"):
            PartialFile(tmp_path / name)
    write_atomically(tmp_path / ("y" * 255), "the longest name")


def test_two_folders_change_places(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if exchange(tmp_path / "a", tmp_path / "b"):
        assert (tmp_path / "a" / "b").exists() and (tmp_path / "b" / "a").exists()
    assert not exchange(tmp_path / "a", tmp_path / "nowhere")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_working_folder_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    program = f"""
import os, sys
from pathlib import Path
from unimoe_runtime.files.atomic import working_folder
with working_folder(Path({str(tmp_path)!r}), "mixing") as folder:
    (folder / "half").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    with working_folder(tmp_path, "mixing") as ours:
        assert left.exists() and ours.exists(), "another process's folder stays while it lives"
    process.kill()
    process.communicate()
    assert left.exists()
    with working_folder(tmp_path, "mixing"):
        assert not left.exists()
    assert list(tmp_path.iterdir()) == []


def run_at_once(code: str, *arguments: str, count: int = 6) -> list[tuple[int, str]]:
    """Exit code and errors of `count` processes that run at the same time."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runtime")}
    processes = [
        subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    return [(process.wait(60), process.communicate()[1]) for process in processes]


WRITES = """
import sys
from pathlib import Path
from unimoe_runtime.files.atomic import working_folder, write_atomically
for number in range(150):
    write_atomically(Path(sys.argv[1]), "whole" * 100)
    with working_folder(Path(sys.argv[1]).parent, "same") as folder:
        (folder / "file").touch()
"""


def test_several_processes_write_the_same_name(tmp_path: Path) -> None:
    assert run_at_once(WRITES, str(tmp_path / "a.txt"), count=4) == [(0, "")] * 4
    assert names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "whole" * 100


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    made = tmp_path / "made"
    with pytest.raises(BlockingIOError), staging_path(made, wait=False), staging_path(made, wait=False):
        raise AssertionError("the second one enters")


def test_a_staging_path_is_free_and_leaves_nothing(tmp_path: Path) -> None:
    left = tmp_path / ".made.part"
    (left / "made").mkdir(parents=True)
    (left / "link").symlink_to(tmp_path)
    with staging_path(tmp_path / "made", wait=True) as path:
        assert path.name == "made" and names(path.parent) == []
        path.mkdir()
        path.rename(tmp_path / "made")
    assert names(tmp_path) == ["made"]


@pytest.mark.parametrize("folder", ["/proc", "/proc/self", "/sys", "/dev/null"])
def test_an_error_names_the_file_that_was_asked_for(folder: str) -> None:
    """A folder in which nothing can be made. The temporary name would tell nobody anything."""
    with pytest.raises(OSError) as caught:
        PartialFile(Path(folder, "result.json"))
    assert str(caught.value.filename).startswith(folder) and ".unimoe" not in str(caught.value)
