"""Versions of spoken clips: their samples, their phonemes' times, and which clips have some."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimoe.data.corpus import Item
from unimoe.training.versions import VersionRecipe, version_of, versions_of
from unimoe_runtime.errors import ConfigError

RATE_HZ = 24000
CLICK_S, END_S = 0.3, 0.5


def clip(split: str = "train") -> Item:
    """Silence with a click between two phonemes, behind another clip of the same audio."""
    audio_L = np.zeros(2 * RATE_HZ, np.int16)
    audio_L[RATE_HZ + round(CLICK_S * RATE_HZ)] = 20000
    item = Item(
        source="ann", domain="speech", kind="digits", text="a", split="train", offset=RATE_HZ,
        length=round(END_S * RATE_HZ), voice="ann", phonemes=(("pau", CLICK_S), ("ah0", END_S)), word_numbers=(-1, 0),
        audio_L=audio_L,
    )  # fmt: skip
    return replace(item, split=split)  # type: ignore[arg-type]


@given(st.floats(0, 100), st.floats(0.8, 1.25))
def test_samples_and_times_of_a_version_change_alike(shift_ms: float, stretch: float) -> None:
    version = version_of(clip(), shift_ms / 1000, stretch, RATE_HZ)
    samples_L = version.samples()
    assert samples_L.dtype == np.int16 and len(samples_L) == version.length
    click_s = np.abs(samples_L.astype(int)).argmax() / RATE_HZ
    assert click_s == pytest.approx(version.phonemes[0][1], abs=2e-4)
    assert version.length / RATE_HZ == pytest.approx(version.phonemes[-1][1], abs=2e-4)


def test_a_version_that_changes_nothing_is_the_clip() -> None:
    item, version = clip(), version_of(clip(), 0.0, 1.0, RATE_HZ)
    assert np.array_equal(version.samples(), item.samples()) and version.phonemes == item.phonemes


def test_training_clips_with_recorded_times_have_versions() -> None:
    recipe = VersionRecipe(shift_ms=(4.0, 8.0), stretch=(1.0, 1.1))
    items = [clip(), clip("valid"), clip("test"), replace(clip(), word_numbers=())]
    versions = versions_of(items, recipe, RATE_HZ)
    assert [version.split for version in versions] == ["train", "train"]
    assert [version.length for version in versions] == [11904, round(11808 * 1.1)]


def test_as_many_shifts_as_stretches() -> None:
    with pytest.raises(ConfigError, match="shift_ms has 1 values and stretch 2: give equally many"):
        VersionRecipe.from_dict({"shift_ms": [4], "stretch": [1.0, 1.1]})
