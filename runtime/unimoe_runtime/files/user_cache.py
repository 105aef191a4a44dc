"""The folder for files that can be created again."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def user_cache_dir() -> Path:
    """unimoe's folder in the user's cache: XDG_CACHE_HOME, LOCALAPPDATA on Windows, or ~/.cache. It may not exist."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "unimoe"
