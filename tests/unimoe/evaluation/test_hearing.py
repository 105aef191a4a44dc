"""Whether a recogniser hears what a clip should say, and at what pace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.unimoe.data.installed import needs_dictionary
from unimoe.data.gathering import gather_clips
from unimoe.evaluation.hearing import hear_clip, hear_corpus, judge_clip, left_out_counts
from unimoe.evaluation.whisper import RATE_HZ
from unimoe_runtime.errors import OutputError


def clip(phoneme_s: float = 0.08) -> dict[str, Any]:
    sounds = "pau p aa1 r k t t r ah1 k .".split()
    numbers = [-1, 0, 0, 0, 0, 0, 1, 1, 1, 1, -1]
    return {
        "key": 1,
        "words": [["parked", 0.1, 0.5], ["truck", 0.5, 0.9]],
        "phonemes": [[sound, phoneme_s, number] for sound, number in zip(sounds, numbers, strict=True)],
    }


@needs_dictionary
def test_a_misspelt_word_passes_and_another_one_does_not() -> None:
    assert judge_clip(clip(), "Parked truck.")["left_out"] == ""
    alike = judge_clip(clip(), "Park truck.")
    assert alike["left_out"] == "" and alike["word_errors"] == 1 and 0 < alike["phoneme_errors"] < 0.2
    assert judge_clip(clip(), "Bring me home.")["left_out"] == "other words heard"
    assert judge_clip(clip(), " ")["left_out"] == "nothing heard"


@needs_dictionary
def test_pace_has_limits() -> None:
    assert judge_clip(clip(0.01), "parked truck")["left_out"] == "too fast or too slow"
    assert judge_clip(clip(0.9), "parked truck")["left_out"] == "too fast or too slow"
    lines = [{"left_out": "b"}, {"left_out": ""}, {"left_out": "a"}, {"left_out": "b"}]
    assert list(left_out_counts(lines).items()) == [("b", 2), ("a", 1)]


class Judge:
    """Hears what it is given, first in the quick hearings and then in the full one, and counts the hearings."""

    def __init__(self, *heard: str) -> None:
        self.heard, self.hearings = heard, 0

    def __call__(self, pcm_L: np.ndarray) -> str:
        assert self.hearings == 2, "the full hearing is the last one"
        return self.hear_quickly(pcm_L, margin_s=0.0, beam_size=5)

    def hear_quickly(self, pcm_L: np.ndarray, *, margin_s: float, beam_size: int) -> str:
        self.hearings += 1
        return self.heard[self.hearings - 1]


@needs_dictionary
@pytest.mark.parametrize(
    ("heard", "left_out"),
    [
        (["Parked truck."], ""),
        (["Park truck."], ""),
        (["Parked truck. Parked truck.", "Parked truck."], ""),
        (["", "Bring me home.", "Parked truck."], ""),
        (["Bring me home.", "Parked truck, parked truck.", "Bring me."], "other words heard"),
        (["", "", ""], "nothing heard"),
    ],
)
def test_only_the_full_hearing_leaves_a_clip_out(
    heard: list[str], left_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "1.flac", np.zeros(RATE_HZ), RATE_HZ)
    judge = Judge(*heard)
    monkeypatch.setattr("unimoe.evaluation.hearing._open", lambda size: judge)
    line = hear_clip({**clip(), "audio": "1.flac"}, tmp_path, "tiny.en")
    assert judge.hearings == len(heard)
    assert (line["heard"], line["by"], line["left_out"]) == (heard[-1], "tiny.en", left_out)


@needs_dictionary
def test_a_wrong_pace_is_not_heard_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "1.flac", np.zeros(RATE_HZ), RATE_HZ)
    judge = Judge("Parked truck.")
    monkeypatch.setattr("unimoe.evaluation.hearing._open", lambda size: judge)
    assert hear_clip({**clip(0.01), "audio": "1.flac"}, tmp_path, "tiny.en")["left_out"] == "too fast or too slow"


def test_a_folder_without_clips_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no spoken clips: `unimoe data speak"):
        list(hear_corpus(tmp_path))
    with pytest.raises(OutputError, match="no spoken clips: `unimoe data speak"):
        gather_clips(tmp_path, tmp_path / "corpus", sample_rate_hz=24000)
    assert not list(tmp_path.iterdir())
