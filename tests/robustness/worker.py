"""Runs cases one after another in a separate process, which the parent can measure and kill.

A line of JSON in, {"id", "argv", "stdin"?}; a line out, {"id", "code", "stdout", "stderr", "seconds", "peak"}. Seconds
are CPU time, which other processes do not lengthen. The command's two output streams are captured at the level of
file descriptors, so the output of libraries is included.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

from tests.robustness.of_requests import REQUEST
from tests.serving.running import RunningServer, running_server

_TOLD = 4_000
_MOST_HELD = 3 << 29
"""Resident memory after a case from which on a new process goes on: libraries keep some of it."""


def main() -> None:
    limit = int(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    questions = os.fdopen(os.dup(0), "r", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a command that reads standard input finds its end
    warm_up()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers.write("ready\n")
    answers.flush()
    for line in questions:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + limit, resource.RLIM_INFINITY))
        answer = run(json.loads(line))
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        answer["ends"] = _memory("VmRSS") > _MOST_HELD
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if answer["ends"]:
            os._exit(0)


def exit_code(ended: SystemExit) -> int:
    """The code with which Python would end a process."""
    return ended.code if isinstance(ended.code, int) else int(ended.code is not None)


def warm_up() -> None:
    """Import the commands' modules, so that their time and memory do not count for a case."""
    import onnxruntime  # noqa: F401
    import soundfile  # noqa: F401
    import torch  # noqa: F401

    for command in ("calibrate", "data", "evaluate", "export", "inspect", "pack", "profile", "say_as", "synth"):
        importlib.import_module(f"unimoe.cli.{command}")


def run(case: dict[str, Any]) -> dict[str, Any]:
    import unimoe.cli

    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _memory("VmRSS")
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        saved = os.dup(1), os.dup(2)
        sys.stdout.flush()
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        began = time.process_time()
        sys.argv = ["unimoe", *case["argv"]]
        try:
            if case["argv"][0] == REQUEST:
                code = answer_to(*case["argv"][1:])
            else:
                unimoe.cli.main()
                code = 0
        except SystemExit as ended:
            code = exit_code(ended)
        except BaseException:
            traceback.print_exc()
            code = -1
        seconds = time.process_time() - began
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in enumerate(saved, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)
        told = []
        for file in (out, err):
            file.seek(0)
            told.append(file.read(1 << 20).decode("utf-8", "replace")[-_TOLD:])
    return {
        "id": case["id"], "code": code, "stdout": told[0], "stderr": told[1], "seconds": seconds,
        "peak": _memory("VmHWM") - before,
    }  # fmt: skip


_OPEN = ExitStack()


@cache
def _server(bundle: str) -> RunningServer:
    return _OPEN.enter_context(running_server({"tiny": Path(bundle)}))


def answer_to(bundle: str, method: str, path: str, content_type: str, body: str) -> int:
    """Send a request to a server in this process: 0 if it is served, 1 if it is refused in OpenAI's form."""
    server = _server(bundle)
    content = Path(body).read_bytes()
    status, _, answer = server.ask(method, path, content, {"content-type": content_type} if content_type else {})
    if status < 400:
        return 0
    if method == "HEAD" and not answer:
        message = f"status {status}"
    else:
        error = json.loads(answer)["error"]
        message = error["message"] if set(error) == {"message", "type", "param", "code"} else repr(error)
    print(f"unimoe: {message}", file=sys.stderr)
    return 1 if status < 500 else -status


def _memory(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
