"""Outputs are complete under their name, or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimoe_runtime.errors import OutputError
from unimoe_tools.pages.output import require_writable, write_output


def test_nothing_temporary_stays(tmp_path: Path) -> None:
    write_output(tmp_path / "a.html", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
    for act in (lambda: write_output(tmp_path / "no" / "a", ""), lambda: require_writable(tmp_path)):
        with pytest.raises(OutputError, match="cannot be written"):
            act()
