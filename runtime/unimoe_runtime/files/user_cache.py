"""The folder for files that can be created again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from unimoe_runtime.errors import OutputError
from unimoe_runtime.files.atomic import staging_path
from unimoe_runtime.files.text import reason_of


def user_cache_dir() -> Path:
    """unimoe's folder in the user's cache, XDG_CACHE_HOME or ~/.cache. It may not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unimoe"


def cached(name: str, make: Callable[[Path], object]) -> Path:
    """The cache's file or folder `name`. Where it is missing, `make` writes it to the path that it is given.

    That path lies in a hidden folder of its own, and is renamed when it is complete. Of several processes at once, one
    makes it and the others wait. What a killed process left is removed. Raises OutputError where the cache cannot be
    written, and whatever `make` raises.
    """
    path = user_cache_dir() / name
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staging_path(path, wait=True) as staging:
            if not path.exists():
                make(staging)
                staging.rename(path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be made ({reason_of(error)}); XDG_CACHE_HOME can name another folder for the cache"
        ) from None
    return path
