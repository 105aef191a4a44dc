"""JSON and TOML documents, read safely: with limits on size, depth and memory."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from unimoe_runtime.errors import UnimoeError
from unimoe_runtime.files.text import decode_text, read_bytes, read_text

MAX_BYTES = 16 << 20
MAX_VALUES = 1 << 20
"""Limit on the lists, tables and commas of a document; each item takes about a hundred bytes of memory."""


def read_json(path: Path, error: type[UnimoeError]) -> dict[str, Any]:
    """A JSON object from a file. Raises `error`, one line, if it is missing, damaged or not an object."""
    data = parse_json(read_bytes(path, error, max_bytes=MAX_BYTES), str(path), error)
    if not isinstance(data, dict):
        raise error(f"{path}: must hold a JSON object")
    return data


def parse_json(content: bytes | str, where: str, error: type[UnimoeError]) -> Any:
    """A JSON document's value. Raises `error`, one line, if it is damaged, nested too deep or too large."""
    text = decode_text(content, where, error) if isinstance(content, bytes) else content
    if len(text) > MAX_BYTES or text.count("[") + text.count("{") + text.count(",") > MAX_VALUES:
        raise error(f"{where}: is too large: it has {len(text)} characters")
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError as problem:
        raise error(f"{where}: not valid JSON ({problem})") from None
    except RecursionError:
        raise error(f"{where}: not valid JSON (nested too deep)") from None


def read_toml(path: Path, error: type[UnimoeError]) -> dict[str, Any]:
    """A TOML document from a file. Raises `error`, one line, if it is missing or damaged."""
    text = read_text(path, error, max_bytes=1 << 20)
    try:
        return tomllib.loads(text)
    except ValueError as problem:
        raise error(f"{path}: not valid TOML ({' '.join(str(problem).split())})") from None
    except RecursionError:
        raise error(f"{path}: not valid TOML (nested too deep)") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
