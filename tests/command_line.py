"""Runs `unimoe` as a user does, in a separate process or in this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from unimoe.cli.group import cli

ROOT = Path(__file__).parents[1]
PACKAGE_ROOTS = ":".join(str(ROOT / part) for part in (".", "export", "runtime", "calibration"))


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one command with pipes: stdin and stdout are not terminals."""
    return subprocess.run(
        [sys.executable, "-m", "unimoe.cli", *map(str, arguments)],
        capture_output=True, text=True, check=False,
        env={"PYTHONPATH": PACKAGE_ROOTS, "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def output_of(*arguments: str | Path) -> str:
    """The output of a command that must succeed. The command runs in this process, which is faster."""
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def assert_one_line(done: subprocess.CompletedProcess[str], message: str) -> None:
    """Assert that the command exited with code 1 and printed one line that contains `message`."""
    assert done.returncode == 1, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
