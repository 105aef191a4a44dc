"""A file's size and SHA-256."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from unimoe_runtime.errors import BundleError
from unimoe_runtime.files.text import open_regular
from unimoe_runtime.records import Between, JsonRecord, Length


@dataclass(frozen=True, kw_only=True)
class FileInfo(JsonRecord):
    """A manifest's entry for a file: size and SHA-256."""

    bytes: Annotated[int, Between(0, 1 << 50)]
    sha256: Annotated[str, Length(0, 64)]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hex. Raises BundleError if it cannot be read."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from None
