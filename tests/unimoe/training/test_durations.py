"""Training of the duration network."""

from __future__ import annotations

import numpy as np
import pytest

from unimoe.data.corpus import Item
from unimoe.training.durations import (
    DurationRecipe,
    TimedText,
    duration_errors,
    mean_predictor,
    timed_text,
    train_durations,
)
from unimoe_runtime.errors import OutputError


def made_up_texts(count: int) -> list[TimedText]:
    """Clips in which a vowel before a pause is long, and the voice "slow" speaks at half the speed."""
    rng = np.random.default_rng(count)
    texts = []
    for _ in range(count):
        voice, factor = [("fast", 1.0), ("slow", 2.0)][rng.integers(2)]
        num_words = int(rng.integers(1, 4))
        words = [("pau",), *[("k", "ae1")] * num_words, ("?",)]
        seconds = [0.1, *[0.05, 0.1] * (num_words - 1), 0.05, 0.3, 0.15]
        texts.append(TimedText(voice=voice, words=tuple(words), seconds_P=tuple(factor * value for value in seconds)))
    return texts


def test_neighbours_and_voices_decide_how_long_a_phoneme_lasts() -> None:
    train, held_out = made_up_texts(60), made_up_texts(12)
    recipe = DurationRecipe(channels=16, taps=3, dilations=(1, 1), epochs=60, batch_clips=12, dropout=0.0)
    predictor = train_durations(train, ["fast", "slow"], recipe)
    found = duration_errors(lambda text: predictor.word_durations(text.voice, text.words), held_out)
    means = duration_errors(mean_predictor(train), held_out)
    assert found.num_clips == 12 and found.phoneme_ms < 15 < means.phoneme_ms
    assert found.middle_ms < means.middle_ms and found.total < 0.1
    assert predictor.network.config.tables[1] == 2
    (question,) = predictor.word_durations("slow", [("pau",), ("k", "ae1"), ("?",)])[2:3]
    assert question == pytest.approx(0.6, rel=0.2)


def test_pauses_of_an_item_are_words_of_their_own() -> None:
    item = Item(
        source="kokoro", domain="speech", kind="words", text="Go, go?", split="train", offset=0, length=1, voice="emma",
        phonemes=(("pau", 0.1), ("g", 0.2), ("ow1", 0.4), (",", 0.5), ("g", 0.6), ("ow1", 0.9), ("?", 1.0)),
        word_numbers=(-1, 0, 0, -1, 1, 1, -1), audio_L=np.zeros(1, np.int16),
    )  # fmt: skip
    text = timed_text(item)
    assert text.words == (("pau",), ("g", "ow1"), (",",), ("g", "ow1"), ("?",))
    assert text.seconds_P == pytest.approx((0.1, 0.1, 0.2, 0.1, 0.1, 0.3, 0.1))


def test_without_clips_there_is_nothing_to_learn() -> None:
    with pytest.raises(OutputError, match="no clips with word numbers"):
        train_durations([], ["emma"], DurationRecipe())
