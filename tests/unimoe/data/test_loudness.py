"""Every clip of a corpus has the same loudness."""

from __future__ import annotations

import numpy as np
import pytest

from unimoe.data.loudness import normalise_loudness


def test_clips_have_one_loudness_and_no_clipped_peak() -> None:
    quiet = normalise_loudness(0.001 * np.sin(np.arange(16000) / 10))
    assert np.sqrt(np.mean(quiet**2)) == pytest.approx(0.08, rel=1e-3)
    click = np.zeros(16000)
    click[100] = 0.01
    assert np.abs(normalise_loudness(click)).max() == pytest.approx(0.9)
    assert not normalise_loudness(np.zeros(8)).any()
