"""Which engines this machine opens: those that were built here, verified here, or that the user has said to trust.

An engine, and the cache of kernels beside it, is native code for a GPU, and whoever wrote it decides what it does; no
check of its format makes it safe. What is trusted is remembered by SHA-256 in the user's own folder, outside of every
bundle, so that a bundle cannot vouch for itself.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from unimoe_runtime.bundle.engine_sets import EngineSet
from unimoe_runtime.errors import EngineError

TRUST_ENGINES: Final = "UNIMOE_TRUST_ENGINES"
"""The environment variable that, set to 1, says that the user trusts the engines that are opened: --trust-engines."""


def trust_folder() -> Path:
    """An empty file for each hash: under XDG_STATE_HOME, or ~/.local/state. It may not exist."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "unimoe" / "trusted-engines"


def trust(sha256: str) -> None:
    """Remember the hash of something that this machine may open. Where nothing can be written it is not remembered."""
    with suppress(OSError):
        trust_folder().mkdir(parents=True, exist_ok=True)
        (trust_folder() / sha256).touch()


def is_trusted(sha256: str) -> bool:
    return (trust_folder() / sha256).is_file()


def require_trusted(engine_set: EngineSet) -> None:
    """Raise EngineError for engines that were not built here, unless the user trusts them, which is remembered.

    The hash of engines.json covers every engine's.
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
