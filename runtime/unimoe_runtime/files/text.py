"""Text files as the world has them: a byte order mark is no text, and what is not UTF-8 is one line."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from unimoe_runtime.errors import UnimoeError

MAX_BYTES = 64 << 20
"""A text file that is larger is none of ours."""
_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def read_bytes(path: Path, error: type[UnimoeError], *, max_bytes: int = MAX_BYTES) -> bytes:
    """A file's content. Raises `error`, one line, where it is no file, cannot be read, or is larger than that."""
    try:
        # Opening a pipe would wait for a writer.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise error(f"{path}: is no regular file")
            if status.st_size > max_bytes:
                raise error(f"{path}: has {status.st_size} bytes; at most {max_bytes} are read")
            return file.read(status.st_size)
    except (OSError, ValueError) as problem:
        raise error(f"{path}: cannot be read ({reason_of(problem)})") from None


def read_text(path: Path, error: type[UnimoeError], *, max_bytes: int = MAX_BYTES) -> str:
    """A file's text, its byte order mark left out. Raises `error` as `read_bytes` does, and for what is not UTF-8."""
    return decode_text(read_bytes(path, error, max_bytes=max_bytes), str(path), error)


def decode_text(content: bytes, where: str, error: type[UnimoeError]) -> str:
    """UTF-8 with or without a byte order mark. Raises `error`, which names another encoding where the mark tells it."""
    if content[:2] in _MARKS:
        raise error(f"{where}: is {_MARKS[content[:2]]}; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{where}: is not UTF-8 (byte {problem.start}); save it as UTF-8") from None


def read_lines(path: Path, error: type[UnimoeError]) -> list[str]:
    """A file's lines, which end at a line feed and nowhere else: U+2028 is a character of a text."""
    return split_lines(read_text(path, error))


def split_lines(text: str) -> list[str]:
    """Lines that end at "\\n" or "\\r\\n"; the last one need not."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def reason_of(problem: Exception) -> str:
    """The system's words for an error, on one line and without the path, which the message names already."""
    words = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
    return " ".join(str(words).split())
