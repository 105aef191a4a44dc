"""The comparison of requests at once with their runs alone, on a tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.same_audio import Made, compare, difference, trials_for
from tests.speaking_bundle import write_speaking_bundle

TEXTS = {"speech": ("the cat", "cat", "The cat. " * 12), "music": ("120 bpm: C4 E4 G4", "C4")}


@pytest.mark.slow
def test_requests_at_once_give_what_they_give_alone(tmp_path: Path) -> None:
    bundle = write_speaking_bundle(tmp_path)
    lines, streams_per_step = compare(bundle, trials_for(bundle, 40, 0, TEXTS), streams=6)
    assert not lines
    assert streams_per_step > 1


def test_a_difference_is_named() -> None:
    made = Made(chunks=[np.zeros(4), np.ones(4)], codes_TK=np.arange(6).reshape(3, 2), complete=True, error="")
    assert difference(made, made) == ""
    assert difference(replace(made, codes_TK=made.codes_TK + 1), made) == "other codes"
    assert difference(replace(made, codes_TK=made.codes_TK[:2]), made) == "2 frames in 2 chunks, alone 3"
    assert difference(replace(made, chunks=[np.zeros(4), np.zeros(4)]), made) == "other samples in chunk 1"
    left = replace(made, chunks=made.chunks[:1], codes_TK=made.codes_TK[:2], complete=False)
    assert difference(left, made) == ""
