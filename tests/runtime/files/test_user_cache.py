"""The cache lies where the user wants it, and each entry is made once, by one process."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from unimoe_runtime.errors import OutputError
from unimoe_runtime.files.user_cache import cached, user_cache_dir

ROOT = Path(__file__).parents[3]


def test_the_user_chooses_the_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache_dir() == tmp_path / "unimoe"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache_dir() == tmp_path / "home" / ".cache" / "unimoe"
    assert not (tmp_path / "home").exists(), "asking creates nothing"


MAKES = """
import os, random, signal, sys, time
from pathlib import Path
from unimoe_runtime.files.user_cache import cached

def make(path):
    with open(sys.argv[1], "a") as log:
        log.write("made\\n")
    path.mkdir()
    for name in "abc":
        time.sleep(0.05)
        (path / name).write_text(name)
        if "killed" in sys.argv:
            os.kill(os.getpid(), signal.SIGKILL)

time.sleep(random.random() / 50)
assert sorted(os.listdir(cached("thing", make))) == ["a", "b", "c"]
"""


def start(cache: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runtime"), "XDG_CACHE_HOME": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", MAKES, str(cache.parent / "log"), *words],
        env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_one_of_many_processes_makes_an_entry_and_all_use_it(tmp_path: Path) -> None:
    processes = [start(tmp_path / "cache") for _ in range(6)]
    assert [(process.wait(60), process.communicate()[1]) for process in processes] == [(0, "")] * 6
    assert (tmp_path / "log").read_text() == "made\n"
    assert os.listdir(tmp_path / "cache" / "unimoe") == ["thing"]


def test_a_half_made_entry_never_counts(tmp_path: Path) -> None:
    killed = start(tmp_path / "cache", "killed")
    others = [start(tmp_path / "cache") for _ in range(3)]
    assert killed.wait(60) in (0, -signal.SIGKILL)
    assert [(process.wait(60), process.communicate()[1]) for process in others] == [(0, "")] * 3
    assert os.listdir(tmp_path / "cache" / "unimoe") == ["thing"]


@pytest.mark.parametrize("way", ["a file in its place", "no space"])
def test_a_cache_that_cannot_be_written_is_one_line(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fail(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    if way == "a file in its place":
        (tmp_path / "unimoe").write_text("")
    with pytest.raises(OutputError, match=r"thing: cannot be made \(.*\); XDG_CACHE_HOME can name another"):
        cached("thing", fail)
