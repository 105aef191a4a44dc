"""Reading text files: a byte order mark is not part of the text, and input that is not UTF-8 is a one-line error.

Also the parts of such errors that several modules need: the system's reason, and the beginning of a long list.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from unimoe_runtime.errors import UnimoeError

MAX_BYTES = 64 << 20
"""Size limit of a text file."""
_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading; a pipe, whose opening would wait for a writer, is refused. Raises OSError."""
    file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
    return file


def read_bytes(path: Path, error: type[UnimoeError], *, max_bytes: int = MAX_BYTES) -> bytes:
    """A file's content. Raises `error`, one line, if it is not a file, cannot be read, or is too large."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise error(f"{path}: has {size} bytes; at most {max_bytes} are read")
            return file.read(size)
    except (OSError, ValueError) as problem:
        raise error(f"{path}: cannot be read ({reason_of(problem)})") from None


def read_text(path: Path, error: type[UnimoeError], *, max_bytes: int = MAX_BYTES) -> str:
    """A file's text without its byte order mark. Raises `error` as `read_bytes` does, and if it is not UTF-8."""
    return decode_text(read_bytes(path, error, max_bytes=max_bytes), str(path), error)


def decode_text(content: bytes, where: str, error: type[UnimoeError]) -> str:
    """UTF-8 text with or without a byte order mark. Raises `error`, which names the encoding that the mark shows."""
    if content[:2] in _MARKS:
        raise error(f"{where}: is {_MARKS[content[:2]]}; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{where}: is not UTF-8 (byte {problem.start}); save it as UTF-8") from None


def read_lines(path: Path, error: type[UnimoeError], *, max_bytes: int = MAX_BYTES) -> list[str]:
    """A file's lines. Only a line feed ends a line; U+2028 is a character of the text."""
    return split_lines(read_text(path, error, max_bytes=max_bytes))


def split_lines(text: str) -> list[str]:
    """Lines that end with "\\n" or "\\r\\n"; the last one may end without."""
    lines = text.split("\n")
    if "\r" in text:
        lines = [line.removesuffix("\r") for line in lines]
    return lines[:-1] if lines[-1] == "" else lines


def first_few(items: Sequence[str], separator: str = ", ", *, most: int = 3) -> str:
    """The first items of a message's list, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return separator.join(items[:most]) + more


def reason_of(problem: Exception) -> str:
    """The system's message of an error, on one line and without the path, which our message already names."""
    if isinstance(problem, shutil.Error) and isinstance(problem.args[0], list) and problem.args[0]:
        # Of a copied folder's files, the first: (source, target, message), with number and name in the message.
        words = re.sub(r"^\[Errno \d+\] |: ['\"].*", "", str(problem.args[0][0][2]), flags=re.DOTALL)
        return " ".join(words.split())
    words = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
    return " ".join(str(words).split())
