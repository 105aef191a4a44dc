from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from unimoe.data.npm import PRONUNCIATIONS, cache_folder, package_folder
from unimoe_runtime.errors import OutputError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "unimoe"


def test_an_unpacked_package_is_found(cache: Path) -> None:
    assert cache_folder() == cache
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
