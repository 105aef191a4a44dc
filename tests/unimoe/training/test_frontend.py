"""A front end speaks every text of the corpus that it is made for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.frontend import small_frontend
from unimoe.data.corpus import Corpus, Item
from unimoe.training import frontend
from unimoe.training.frontend import FrontEndRecipe, write_frontend
from unimoe_runtime.errors import PromptError
from unimoe_runtime.frontend import open_frontend

AUDIO = np.zeros(1000, np.int16)


@pytest.mark.parametrize("text", ["cat", "the cat, hello cat", "the cat the cat the cat"])
@pytest.mark.parametrize("frames", [1, 40, 320])
def test_the_limit_covers_what_is_predicted_for_each_clip(
    text: str, frames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorded clip may be shorter than the mean durations of its phonemes."""

    def write(folder: Path, *_: object, **__: Any) -> None:
        small_frontend.write_frontend(folder, max_frames=frames)

    monkeypatch.setattr(frontend, "write_rule_frontend", write)
    item = Item(
        source="ann", domain="speech", kind="words", text=text, split="train", offset=0, length=1000, voice="ann",
        phonemes=(("pau", 0.01),), audio_L=AUDIO,
    )  # fmt: skip
    corpus = Corpus(sample_rate_hz=16000, licences={"ann": ""}, items=(item,))
    made = write_frontend(tmp_path / "frontend", corpus, FrontEndRecipe(), frame_rate_hz=50.0)
    assert made.timeline(*item.request()).duration_s * 50 <= made.max_frames
    assert made.max_frames >= frames


def test_a_length_beyond_the_limit_never_reads_as_the_limit(tmp_path: Path) -> None:
    for frames in range(20, 60):
        small_frontend.write_frontend(tmp_path / str(frames), max_frames=frames)
        opened = open_frontend(tmp_path / str(frames))
        try:
            opened.timeline("speech", "cat")  # type: ignore[attr-defined]
        except PromptError as error:
            lengths = [float(length) for length in re.findall(r"([\d.]+) s\b", str(error))]
            assert lengths[0] > lengths[1]
