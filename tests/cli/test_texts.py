"""The sources of a command's text."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from unimoe.cli.texts import read_text, speech_options
from unimoe_runtime.errors import PromptError


def test_a_text_is_itself_or_a_files(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfcaf\xc3\xa9")
    assert read_text("hello", None) == "hello"
    assert read_text(None, path) == "café"
    with pytest.raises(click.UsageError):
        read_text("hello", path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PromptError, match="is UTF-16; save it as UTF-8"):
        read_text(None, path)
    with pytest.raises(PromptError, match=r"cannot be read \(Is a directory\)"):
        read_text(None, tmp_path)


def test_options_of_speech(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("Zork  T AE1 K\n", encoding="utf-8")
    assert speech_options(2.0, path).lexicon == {"Zork": "T AE1 K"}
    assert speech_options(1.0, None).lexicon == {}
