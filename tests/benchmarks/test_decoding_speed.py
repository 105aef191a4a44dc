"""Alternating sides over a tiny bundle: the same code gives the same codes. No timing is asserted."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.decoding_speed import Side, measure, summarize, table
from tests.speaking_bundle import write_speaking_bundle


@pytest.mark.slow
def test_two_sides_of_the_same_code_agree(tmp_path: Path) -> None:
    bundle = write_speaking_bundle(tmp_path)
    sides = [Side.parse(f"one={bundle},threads=1"), Side.parse(f"two={bundle},threads=1,codec=between")]
    rows = summarize(measure(sides, rounds=2), "one")
    assert {row["name"]: row["same_codes"] for row in rows} == {"one": 1.0, "two": 1.0}
    assert table(rows).count("\n") == 3
