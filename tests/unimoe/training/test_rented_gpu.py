"""recipes/rented-gpu.sh: what it calls, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.command_line import ROOT

SCRIPT = ROOT / "recipes" / "rented-gpu.sh"


def run(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The script with a `python3` that shows its arguments and leaves a stage behind."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "tmp").mkdir(exist_ok=True)
    python = folder / "bin" / "python3"
    python.write_text(f'#!/bin/sh\necho "$@"\ntouch "$8/stage"\nexit {code}\n', encoding="utf-8")
    python.chmod(0o755)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", SCRIPT, *arguments],
        cwd=folder,
        env={"PATH": path, "TMPDIR": str(folder / "tmp")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_paths_are_the_callers_and_nothing_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    done = run(tmp_path, "package", "new/result", "3")
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()[-1].split()
    assert said[:6] == ["-m", "unimoe.cli", "train", "timed", f"{tmp_path}/package", f"{tmp_path}/new/result"]
    assert said[6] == "--work" and said[8:] == ["--minutes", "3"]
    assert not list((tmp_path / "tmp").iterdir())


def test_a_failed_run_keeps_its_stages_and_names_them(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    done = run(tmp_path, "package", "result", code=1)
    (work,) = (tmp_path / "tmp").iterdir()
    assert done.returncode == 1 and f"are in {work}" in done.stderr


def test_missing_arguments_are_a_usage_error(tmp_path: Path) -> None:
    for arguments in ([], ["package"], ["package", "result", "9", "more"]):
        done = run(tmp_path, *arguments)
        assert done.returncode == 2 and "PACKAGE RESULT [MINUTES]" in done.stderr
