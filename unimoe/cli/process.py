"""Process handling that all commands share: signals, output and exit."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from unimoe.stopping import Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_S = 1.0
_LONGEST_LINE = 1200
_CONTROLS = re.compile(
    r"[\0-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x80-\x9f\u202a-\u202e\u2066-\u2069]|\r(?!\n)|\x1b(?!\[[\d;]*m)"
)
_stopped_by: list[int] = []


def hear_signals() -> None:
    """Handle Ctrl-C, SIGTERM and SIGHUP. A signal that is ignored (nohup) stays so.

    Until `work_begins`, a signal ends the process at once: there is nothing to save, and an exception in the middle of
    an import would become a traceback. From then on it raises `Stopped`.
    """
    _stopped_by.clear()
    for number in _SIGNALS:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _leave)
    # A write beyond a file-size limit is an error of that write, not the end of the process.
    with suppress(ValueError):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def work_begins() -> None:
    """From here on a signal raises `Stopped`. Without `hear_signals` before, this does nothing."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _leave:
            signal.signal(number, _stop)


def stopped_by() -> int:
    """Number of the signal that stopped the work; 0 if none did."""
    return _stopped_by[0] if _stopped_by else 0


def _leave(number: int, frame: FrameType | None) -> None:
    words = "by hand" if number == signal.SIGINT else "by a signal"
    with suppress(OSError):
        os.write(2, f"unimoe: stopped {words}\n".encode())
    os._exit(128 + number)


def _stop(number: int, frame: FrameType | None) -> None:
    """Raise `Stopped`. `timeout` sends a signal twice at once, and a closed terminal several: these do nothing more."""
    _stopped_by.append(number)
    _hear_no_more()
    raise Stopped(number)


def _hear_no_more() -> None:
    """From here on signals do nothing: temporary files are being removed. A Ctrl-C a moment later ends at once."""
    began = time.monotonic()

    def again(number: int, frame: FrameType | None) -> None:
        if time.monotonic() - began > _AGAIN_S:
            _leave(number, frame)

    for one in _SIGNALS:
        if signal.getsignal(one) is _stop:
            signal.signal(one, again if one == signal.SIGINT else signal.SIG_IGN)


class _Stdout(io.FileIO):
    """Standard output that remembers why a write failed: a library may turn the error into an exit."""

    problem = ""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            gone = error.errno == errno.EPIPE
            self.problem = "its reader is gone; the rest was not written" if gone else str(error.strerror)
            raise


class _Printed(io.TextIOWrapper):
    """Standard output as text. What a bundle calls its voices must not move the cursor or reverse the reading."""

    def write(self, text: str, /) -> int:
        return super().write(without_controls(text))


def without_controls(text: str) -> str:
    """The text with its control characters escaped, except for line ends, tabs and colours."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def write_what_can_be() -> None:
    """Escape characters that the terminal's encoding lacks, and discard writes to a closed stream."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    old = sys.stdout
    if isinstance(old, io.TextIOWrapper) and isinstance(_raw(old), io.FileIO) and old.fileno() == 1:
        buffer: Any = _Stdout(1, "w", closefd=False)
        if isinstance(old.buffer, io.BufferedWriter):
            buffer = io.BufferedWriter(buffer)
        sys.stdout = _Printed(
            buffer, old.encoding, old.errors, line_buffering=old.line_buffering, write_through=old.write_through
        )


def _raw(stream: object) -> object:
    """The file under a text stream, which PYTHONUNBUFFERED leaves without a buffer."""
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)


def shortened(line: str) -> str:
    """A line without its middle where a long value fills it."""
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE * 3 // 4]} … {line[-_LONGEST_LINE // 4 :]}"


def tell(message: str) -> None:
    """Write one line to stderr; failures are ignored."""
    line = shortened("".join(part if part.isprintable() else ascii(part)[1:-1] for part in message))
    with suppress(OSError, ValueError):
        sys.stderr.write(f"unimoe: {line}\n")
        sys.stderr.flush()


def stdout_problem() -> str:
    """Why what was written to standard output did not arrive; empty if it did."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    raw = _raw(sys.stdout)
    return raw.problem if isinstance(raw, _Stdout) else ""


def end(code: int) -> None:
    """Exit with a code; with one line, and 1 instead of 0, if the rest of standard output cannot be written."""
    _hear_no_more()
    if problem := stdout_problem():
        tell(f"standard output: {problem}")
        code = code or 1
        # At exit Python would try again and print an error.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)
