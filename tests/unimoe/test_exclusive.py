"""A folder that one process writes: what a failed command leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimoe.exclusive import exclusive


def fail_in(folder: Path, *files: str) -> None:
    with pytest.raises(ValueError), exclusive(folder):
        for name in files:
            (folder / name).touch()
        raise ValueError


def test_a_failed_block_leaves_no_new_empty_folder(tmp_path: Path) -> None:
    fail_in(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_files_and_folders_of_others_stay(tmp_path: Path) -> None:
    fail_in(tmp_path / "new", "kept")
    assert (tmp_path / "new" / "kept").exists()
    (tmp_path / "old").mkdir()
    fail_in(tmp_path / "old")
    assert (tmp_path / "old").exists()
    with exclusive(tmp_path / "made"):
        pass
    assert (tmp_path / "made").exists()
