"""Runs the command line and turns the way it ends into a line and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys

import click

from unimoe.cli.group import cli
from unimoe.cli.options import NO_ROOM
from unimoe.cli.process import end, shortened, stdout_problem, stopped_by, tell, write_what_can_be
from unimoe.stopping import Stopped
from unimoe_runtime.errors import UnimoeError
from unimoe_runtime.files.text import reason_of

EXTRAS = {
    "torch": "train", "safetensors": "train", "onnx": "export", "onnx_ir": "export", "polygraphy": "export",
    "ml_dtypes": "calibrate", "matplotlib": "calibrate", "onnxruntime": "cpu",
    "pocketsphinx": "eval", "pystoi": "eval", "faster_whisper": "eval", "av": "video", "PIL": "video",
    "starlette": "serve", "uvicorn": "serve", "uvloop": "serve", "httptools": "serve", "websockets": "serve",
    "prometheus_client": "serve", "wyoming": "serve",
}  # fmt: skip
"""Which extra installs a third-party module that a command may find missing."""


def run() -> None:
    """Run the command that `sys.argv` names, and exit."""
    write_what_can_be()
    try:
        code = cli.main(prog_name="unimoe", standalone_mode=False)
        end(code if isinstance(code, int) else 0)
    except BaseException as error:
        if stopped_by() and not isinstance(error, SystemExit) and not _debugging():
            _end_stopped(error)
        _end_failed(error)


def _end_stopped(error: BaseException) -> None:
    """After a signal, any error is its result: a library may turn the exception of a signal into another one."""
    by_signal = next((one for one in (error, error.__cause__) if isinstance(one, Stopped)), None)
    number = by_signal.number if by_signal else stopped_by() or signal.SIGINT
    how = "stopped by hand" if number == signal.SIGINT else "stopped by a signal"
    tell(how if by_signal is None or not by_signal.where else f"{how}: {by_signal.where}")
    end(128 + number)


def _end_failed(error: BaseException) -> None:
    match error:
        case click.ClickException():
            vars(error)["message"] = shortened(error.message)
            error.show()
            sys.exit(error.exit_code)
        case SystemExit():
            end(error.code if isinstance(error.code, int) else int(error.code is not None))
        case click.Abort() | KeyboardInterrupt():
            _end_stopped(error)
        case OSError() if stdout_problem():
            end(1)
        case UnimoeError() | OSError() | MemoryError() if not _debugging():
            tell(_in_words(error))
            end(1)
        case ModuleNotFoundError() if (package := (error.name or "").split(".")[0]) in EXTRAS:
            from unimoe_runtime.install import install_command

            tell(f"this command needs {package}: `{install_command(EXTRAS[package])}`")
            end(1)
        case _:
            raise error


def _debugging() -> bool:
    return bool(os.environ.get("UNIMOE_DEBUG"))


def _in_words(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory for this"
    return _system_error(error) if isinstance(error, OSError) else str(error)


def _system_error(error: OSError) -> str:
    """What the system refused, where, and what to do about it."""
    copied_to = error.filename2 if error.errno in NO_ROOM else None  # a copy's first name is its source
    name = error.filename if copied_to is None else copied_to
    where = os.fsdecode(name) if isinstance(name, str | bytes) else ""
    reason = reason_of(error)
    match error.errno:
        case errno.EMFILE | errno.ENFILE:
            return f"{where or 'the system'}: {reason}: allow more with `ulimit -n`"
        case errno.EROFS:
            return f"{where or 'the output'}: cannot be written ({reason}): choose another place"
        case number if number in NO_ROOM:
            return f"{where or 'the output'}: cannot be written ({reason}): free some space, or choose another place"
    return f"{where}: {reason}" if where else reason
