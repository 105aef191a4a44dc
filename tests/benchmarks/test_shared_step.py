"""The parts of a shared step add up to it, and counting them changes no result."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.shared_step import PARTS, TimedBackend, beside, measure
from tests.speaking_bundle import write_speaking_bundle
from unimoe_runtime import SynthesisRequest, Synthesizer, open_bundle


def test_parts_add_up_and_the_samples_stay(tmp_path: Path) -> None:
    bundle = open_bundle(write_speaking_bundle(tmp_path))
    backend = TimedBackend(bundle)
    with Synthesizer(bundle, backend) as synthesizer:
        for num_streams in (1, 3):
            found = measure(synthesizer, backend, num_streams, 5)
            assert all(found[part] > 0 for part in PARTS)
            assert max(found[part] for part in PARTS) < found["step"] <= 2 * sum(found[part] for part in PARTS)
            assert found["launched"] >= bundle.model.num_layers
        assert min(beside(synthesizer)) > 0
        request = SynthesisRequest(text="the cat", seed=1)
        with Synthesizer.open(bundle.path) as plain:
            expected = plain.synthesize(request).pcm_L
        assert synthesizer.synthesize(request).pcm_L == pytest.approx(expected, abs=0)
