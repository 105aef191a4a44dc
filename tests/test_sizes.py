"""Sizes on the command line."""

from __future__ import annotations

import click
import pytest

from unimoe.commands.sizes import BYTES


@pytest.mark.parametrize(
    ("word", "size"), [("300MB", 300_000_000), ("1.5 gb", 1_500_000_000), ("512KiB", 524_288), ("7", 7), ("0", 0)]
)
def test_sizes(word: str, size: int) -> None:
    assert BYTES.convert(word, None, None) == size


@pytest.mark.parametrize("word", ["", "MB", "-1MB", "3 apples", "1e3"])
def test_what_is_no_size(word: str) -> None:
    with pytest.raises(click.BadParameter, match="no size such as"):
        BYTES.convert(word, None, None)
