"""Bars of long work leave nothing in a log."""

from __future__ import annotations

import pytest

from unimoe.bars import progress_bars, tracked


def test_a_log_holds_no_bars(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(tracked(iter("abc"), "letters", total=3)) == ["a", "b", "c"]
    with progress_bars() as bars:
        bars.advance(bars.add_task("work", total=1))
    assert capfd.readouterr() == ("", "")
