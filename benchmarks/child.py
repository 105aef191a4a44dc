"""The environment of a benchmark's child processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent


def environment(variables: Mapping[str, str] | None = None, *, tree: Path = ROOT) -> dict[str, str]:
    """This process's environment, with `variables`, for a child that imports the packages of the checkout `tree`."""
    folders = (str(tree / part) for part in (".", "runtime", "export", "calibration"))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders), **(variables or {})}
