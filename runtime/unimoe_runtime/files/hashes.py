"""A file's size and SHA-256."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from unimoe_runtime.errors import BundleError


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    bytes: int
    sha256: str


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hex. Raises BundleError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from None
