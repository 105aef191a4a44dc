"""The cache lies where the user wants it."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimoe_runtime.files.user_cache import user_cache_dir


def test_the_user_chooses_the_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache_dir() == tmp_path / "unimoe"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache_dir() == tmp_path / "home" / ".cache" / "unimoe"
    assert not (tmp_path / "home").exists(), "asking creates nothing"
