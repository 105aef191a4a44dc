"""Outputs are complete under their name, or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unimoe_runtime.errors import OutputError
from unimoe_tools.output import require_writable, write_output


def test_nothing_temporary_stays(tmp_path: Path) -> None:
    write_output(tmp_path / "a.html", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
    for act in (lambda: write_output(tmp_path / "no" / "a", ""), lambda: require_writable(tmp_path)):
        with pytest.raises(OutputError, match="cannot be written"):
            act()


@pytest.mark.parametrize("place", ["folder", "pipe", "loop", "no/such", "file/inside", "x" * 300, ""])
def test_what_cannot_be_written_is_known_in_advance(place: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.iterdir())
    for act in (lambda: require_writable(tmp_path / place), lambda: write_output(tmp_path / place, "")):
        with pytest.raises(OutputError, match="cannot be written") as caught:
            act()
        assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_an_older_file_stays_where_only_the_check_runs(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")
    require_writable(tmp_path / "a.json")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "old")]


def test_a_name_that_is_not_utf_8_can_be_a_part_of_a_text(tmp_path: Path) -> None:
    write_output(tmp_path / "a.html", "bundle \udcff")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == "bundle \\udcff"
