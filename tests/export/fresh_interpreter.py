"""A fresh interpreter that knows the project's source roots."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


ENCODEC = ROOT / "tests/vectors/encodec_small/codec"


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that knows the project's source roots."""
    roots = os.pathsep.join(str(ROOT / root) for root in (".", "export", "runtime"))
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": roots, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
