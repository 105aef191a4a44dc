"""Utterances: a request's pronunciations and speed, and rates and pauses in the text."""

from __future__ import annotations

import pytest

from unimoe_runtime.errors import PromptError
from unimoe_runtime.frontend import SpeechOptions
from unimoe_runtime.frontend.reading import Notes
from unimoe_runtime.frontend.speech import SpeechReader
from unimoe_runtime.frontend.timeline import TimelineFrontEnd


@pytest.fixture(scope="module")
def reader(frontend: TimelineFrontEnd) -> SpeechReader:
    return frontend.speech


def phonemes(reader: SpeechReader, text: str, options: SpeechOptions) -> list[str]:
    return [phoneme for word in reader.whole(text, "bob", options).words for phoneme in word.phonemes]


def test_a_requests_pronunciation_comes_first(reader: SpeechReader) -> None:
    options = SpeechOptions(lexicon={"cat": "T AE1 K"})
    assert phonemes(reader, "the cat", options) == ["pau", "z", "ax", "t", "ae", "k", "pau"]
    with pytest.raises(PromptError, match="lexicon, 'cat': phonemes 'Q': 'Q' is not a phoneme"):
        phonemes(reader, "cat", SpeechOptions(lexicon={"cat": "Q"}))


def test_speed_and_rates_scale_durations(reader: SpeechReader) -> None:
    slow = reader.whole("cat", "bob", SpeechOptions(speed=0.5)).duration_s
    plain = reader.whole("cat", "bob").duration_s
    text = '<prosody rate="0.5">cat</prosody>'
    assert slow == pytest.approx(2 * plain)
    assert plain < reader.whole(text, "bob").duration_s <= slow


def test_pauses_last_as_long_as_the_text_says(reader: SpeechReader) -> None:
    words = reader.whole("cat [[pause 700ms]] cat", "bob").words
    assert [word.durations_s for word in words if word.is_pause][1] == (0.7,)


def test_a_long_pause_ends_an_utterance(reader: SpeechReader) -> None:
    pieces = list(reader.utterances("cat [[pause 3s]] cat", "bob", SpeechOptions(), 9.0, Notes()))
    assert [(piece.caption, piece.silence_after_s) for piece in pieces] == [("cat", 2.0), ("cat", 0.0)]


def test_short_forms_are_the_bundles_and_the_languages(reader: SpeechReader) -> None:
    assert {"Dr", "Prof", "approx"} <= set(reader.short_forms)
