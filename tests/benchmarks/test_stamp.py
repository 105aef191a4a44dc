"""Published results are no older than the checkpoint that they describe."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import stamp


@pytest.mark.parametrize("name", stamp.recorded())
def test_a_published_result_is_of_the_included_checkpoint(name: str) -> None:
    assert (stamp.ROOT / name).is_file(), f"{name} is recorded and not there"
    assert stamp.recorded()[name] == stamp.included_checkpoint(), (
        f"{name} was measured with another checkpoint: measure again"
    )


def test_a_stamp_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamp, "RECORD", tmp_path / "checkpoints.json")
    monkeypatch.setattr(sys, "argv", ["stamp", str(stamp.ROOT / "benchmarks" / "results" / "decode_step.md")])
    stamp.main()
    assert json.loads(stamp.RECORD.read_text()) == {"benchmarks/results/decode_step.md": stamp.included_checkpoint()}
