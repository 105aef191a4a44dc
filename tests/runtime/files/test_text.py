"""Text files: byte order marks, line ends, and paths that are not regular files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimoe_runtime.errors import BundleError
from unimoe_runtime.files.text import decode_text, read_lines, read_text, reason_of, split_lines


@given(st.text())
def test_lines_end_at_line_feeds_alone(text: str) -> None:
    lines = split_lines(text)
    assert "\n".join(lines) == text.replace("\r\n", "\n").removesuffix("\n").removesuffix("\r") or "\r" in text
    assert decode_text(b"\xef\xbb\xbf" + text.encode(), "x", BundleError) == text or text.startswith("\ufeff")


def test_a_pipe_a_folder_and_a_large_file_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    for name, message in (
        ("pipe", "not a regular file"),
        (".", "directory|regular"),
        ("large", "at most"),
        ("no", "No such"),
    ):
        with pytest.raises(BundleError, match=message):
            read_text(tmp_path / name, BundleError)


def test_lines_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes("\ufeffa\u2028b\r\nc\n".encode())
    assert read_lines(tmp_path / "lines", BundleError) == ["a\u2028b", "c"]


@pytest.mark.parametrize("name", ["b", "a: 'b'", "[Errno 1] x", "two\nlines"])
def test_the_reason_why_a_folder_cannot_be_copied(tmp_path: Path, name: str) -> None:
    """`shutil.copytree` raises a list of errors, whose `strerror` is None."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(shutil.Error) as caught:
        shutil.copytree(tmp_path / name, tmp_path / "copy")
    assert reason_of(caught.value) == "No such file or directory"
    assert reason_of(OSError(5, "Input error")) == "Input error"
    assert reason_of(OSError("unexpected\nend")) == "unexpected end"
