"""Bars of long work leave nothing in a log."""

from __future__ import annotations

import ast

import pytest
from rich.progress import TextColumn

from tests.command_line import ROOT
from unimoe.bars import progress_bars, tracked


def test_a_log_holds_no_bars(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(tracked(iter("abc"), "letters", total=3)) == ["a", "b", "c"]
    for columns in ((), (TextColumn("{task.description}"),)):
        with progress_bars(*columns) as bars:
            bars.advance(bars.add_task("work", total=1))
    assert capfd.readouterr() == ("", "")


def test_every_bar_is_one_of_these() -> None:
    """A bar of rich's own draws into a log too: only the two modules that prevent it make one."""
    own = {ROOT / "unimoe/bars.py", ROOT / "unimoe/cli/progress.py"}
    packages = [path for root in ("unimoe", "export", "runtime", "calibration") for path in (ROOT / root).rglob("*.py")]
    for path in set(packages) - own:
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {call.id for call in calls if isinstance(call, ast.Name)}
        assert not names & {"Progress", "track", "Live", "Status"}, path
