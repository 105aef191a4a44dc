"""The command that installs missing packages, in the form that works for this installation."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlparse


def install_command(*extras: str) -> str:
    """`pip install …` for these extras of unimoe, in double quotes, which every shell accepts.

    For a checkout, or an installation from one (PEP 610, direct_url.json), the command names its folder. No registry
    has a package of that name, so the bare name is only used for installations from an index of the user's own.
    """
    wanted = f"[{','.join(extras)}]" if extras else ""
    folder, editable = _source_folder()
    if folder is None:
        return f'pip install "unimoe{wanted}"'
    return f'pip install {"-e " if editable else ""}"{folder}{wanted}"'


def _source_folder() -> tuple[Path | None, bool]:
    """The folder that unimoe was installed from, and whether the installation is editable."""
    try:
        direct_url = json.loads(distribution("unimoe").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        direct_url = {}
    url = urlparse(str(direct_url.get("url", "")))
    if url.scheme == "file" and "dir_info" in direct_url:
        return Path(unquote(url.path)), bool(direct_url["dir_info"].get("editable"))
    checkout = Path(__file__).parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "runtime" / "unimoe_runtime").is_dir():
        return checkout, True
    return None, False
