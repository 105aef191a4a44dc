"""Whether a recogniser hears what a clip should say, and at what pace."""

from __future__ import annotations

from typing import Any

from tests.unimoe.data.installed import needs_dictionary
from unimoe.evaluation.hearing import judge_clip, left_out_counts


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
