"""Process handling that all commands share: signals, output and exit."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

import click

from unimoe.stopping import Stopped


def hear_signals() -> None:
    """Make SIGTERM and SIGHUP raise `Stopped`. A signal that is ignored (nohup) stays so; a second one does nothing."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)
    # A write beyond a file-size limit is an error of that write, not the end of the process.
    with suppress(ValueError):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise Stopped(number)


def write_what_can_be() -> None:
    """Escape characters that the terminal's encoding lacks, and discard writes to a closed stream."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def tell(message: str) -> None:
    """Write one line to stderr; failures are ignored."""
    line = "".join(part if part.isprintable() else ascii(part)[1:-1] for part in message)
    with suppress(OSError, ValueError):
        click.echo(f"unimoe: {line}", err=True)


def end(code: int) -> None:
    """Exit with a code even if the rest of stdout cannot be written."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        # At exit Python would try again and print an error.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = code or 1
    sys.exit(code)
