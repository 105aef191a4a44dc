"""Published results are no older than the checkpoint that they describe."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import stamp


@pytest.mark.parametrize("name", stamp.recorded())
def test_a_published_result_is_of_an_included_checkpoint(name: str) -> None:
    assert (stamp.ROOT / name).is_file(), f"{name} is recorded and not there"
    assert stamp.recorded()[name] in map(stamp.included_checkpoint, stamp.INCLUDED), (
        f"{name} was measured with another checkpoint: measure again"
    )


def test_a_stamp_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamp, "RECORD", tmp_path / "checkpoints.json")
    monkeypatch.setattr(sys, "argv", ["stamp", str(stamp.ROOT / "benchmarks" / "results" / "decode_step.md")])
    stamp.main()
    assert json.loads(stamp.RECORD.read_text()) == {"benchmarks/results/decode_step.md": stamp.included_checkpoint()}
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--checkpoint", "voices"])
    stamp.main()
    of_voices = json.loads(stamp.RECORD.read_text())["benchmarks/results/decode_step.md"]
    assert of_voices == stamp.included_checkpoint("voices") != stamp.included_checkpoint("demo")


def test_results_of_the_voices_are_recorded() -> None:
    of_voices = {name for name, checkpoint in stamp.recorded().items() if checkpoint != stamp.included_checkpoint()}
    assert {"checkpoints/voices/README.md", "benchmarks/results/everyday_speech.json"} <= of_voices
