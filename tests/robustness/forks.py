"""Runs commands in forks of a process that has imported their modules: `python -m tests.robustness.forks`.

A line of JSON in: [arguments after `unimoe`, variables of the environment, size of the largest file]. Two lines out:
the fork's process id, which is also its process group, and at its end [exit code, stderr]. The code is negative after
a signal.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from typing import IO

from tests.robustness.worker import exit_code, warm_up


class Fork:
    """One command in a fork."""

    def __init__(
        self, argv: list[str], environment: dict[str, str], server: subprocess.Popen[str], file_bytes: int = -1
    ) -> None:
        """`file_bytes`: the largest file that the command can write; -1 is any."""
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps([argv, environment, file_bytes]) + "\n")
        server.stdin.flush()
        self._answers = server.stdout
        self._pid = int(self._answers.readline())

    def send(self, number: int) -> None:
        """Send a signal to the command and, as a terminal does, to the processes that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._pid, number)

    def wait(self, seconds: float) -> tuple[int, str]:
        """Exit code and stderr. A command that does not end in time is killed."""
        timer = threading.Timer(seconds, self.send, (signal.SIGKILL,))
        timer.start()
        code, told = json.loads(self._answers.readline())
        late = not timer.is_alive()
        timer.cancel()
        return (-999, "hangs") if late else (code, told)


def start_server() -> subprocess.Popen[str]:
    """A process that forks; warm when this returns."""
    server = subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert server.stdout is not None
    if server.stdout.readline() != "ready\n":
        raise RuntimeError("the process that forks does not start")
    return server


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    warm_up()
    answers.write("ready\n")
    answers.flush()
    for line in iter(sys.stdin.readline, ""):
        with tempfile.TemporaryFile() as told:
            pid = os.fork()
            if not pid:
                argv, environment, file_bytes = json.loads(line)
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))
                _run(argv, environment, told)
            with suppress(OSError):
                os.setpgid(pid, pid)
            answers.write(f"{pid}\n")
            answers.flush()
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # processes that it left
            told.seek(0)
            answers.write(json.dumps([code, told.read().decode("utf-8", "replace")]) + "\n")
            answers.flush()


def _run(argv: list[str], environment: dict[str, str], told: IO[bytes]) -> None:
    code = 99
    atexit._clear()  # noqa: SLF001 (what the libraries of the server registered)
    try:
        os.environ.update(environment)
        with suppress(OSError):
            os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        os.dup2(told.fileno(), 2)
        sys.argv = ["unimoe", *argv]
        import unimoe.cli

        unimoe.cli.main()
        code = 0
    except SystemExit as ended:
        code = exit_code(ended)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()  # noqa: SLF001
        with suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
