"""Which engines this machine opens: those built here, verified here, or declared trusted by the user.

An engine and the kernel cache beside it are native code for a GPU. No check of their format makes them safe. The
SHA-256 of trusted files is kept in the user's own folder, outside of every bundle, so that a bundle cannot declare
itself trusted.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from unimoe_runtime.bundle.engine_sets import EngineSet
from unimoe_runtime.errors import EngineError

TRUST_ENGINES: Final = "UNIMOE_TRUST_ENGINES"
"""Environment variable: 1 means that the user trusts the engines that are opened, like --trust-engines."""


def trust_folder() -> Path:
    """The folder with an empty file for each hash, under XDG_STATE_HOME or ~/.local/state. It may not exist."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "unimoe" / "trusted-engines"


def trust(sha256: str) -> None:
    """Remember the hash of a file that this machine may open. An unwritable folder is ignored."""
    with suppress(OSError):
        trust_folder().mkdir(parents=True, exist_ok=True)
        (trust_folder() / sha256).touch()


def is_trusted(sha256: str) -> bool:
    """Whether this machine may open the file with this hash."""
    return (trust_folder() / sha256).is_file()


def require_trusted(engine_set: EngineSet) -> None:
    """Raise EngineError for engines that were not built here, unless the user trusts them; that is remembered.

    The hash of engines.json covers that of every engine.
    """
    if os.environ.get(TRUST_ENGINES) == "1":
        trust(engine_set.sha256())
        for record in engine_set.engines.values():
            trust(record.sha256)
    elif not is_trusted(engine_set.sha256()):
        raise EngineError(
            f"{engine_set.path}: these engines were not built on this machine, and an engine can do anything that a "
            f"program can; build your own with `unimoe build BUNDLE --target {engine_set.target}`, or, where you trust "
            "whoever made them, pass --trust-engines once"
        )
