"""CMUdict's entries, and its size."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimoe.data.cmudict import parse_dictionary, read_dictionary
from unimoe_runtime.errors import OutputError

from .installed import needs_dictionary


def test_variants_and_odd_entries_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "index.js"
    path.write_text(
        'export const dictionary = {\n  "a.d.": "EY2 D IY1",\n  read: "R EH1 D",\n  "read(2)": "R IY1 D",\n'
        '  abandon: "AH0 B AE1 N D AH0 N",\n  "cat\'s": "K AE1 T S",\n  odd: "QQ1"\n}\n',
        encoding="utf-8",
    )
    assert parse_dictionary(path) == {
        "read": ("r", "iy1", "d"),
        "abandon": ("ah0", "b", "ae1", "n", "d", "ah0", "n"),
        "cat's": ("k", "ae1", "t", "s"),
    }
    path.write_text("export const dictionary = {}\n")
    with pytest.raises(OutputError, match="no pronunciations"):
        parse_dictionary(path)


@needs_dictionary
def test_the_dictionary_is_large() -> None:
    words = read_dictionary()
    assert len(words) > 120_000
    assert words["hello"] == ("hh", "ah0", "l", "ow1") and words["the"] == ("dh", "ah1")
