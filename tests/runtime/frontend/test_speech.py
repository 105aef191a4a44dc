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


@pytest.mark.parametrize("speed", [0.25, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("gap", [". ", "\n", "\n\n", ", ", " "])
def test_no_piece_is_longer_than_the_limit_at_any_speed(reader: SpeechReader, gap: str, speed: float) -> None:
    text = gap.join(["the cat", "hello", "a", "cat"] * 12)
    pieces = list(reader.utterances(text, "bob", SpeechOptions(speed=speed), 9.0, Notes()))
    assert max(piece.duration_s for piece in pieces) <= 9.0
    words = [word.word for piece in pieces for word in piece.times]
    assert words == "the cat hello a cat".split() * 12


def test_pauses_before_and_after_the_words_are_silence(reader: SpeechReader) -> None:
    def silences(text: str) -> list[tuple[str, float, float]]:
        pieces = reader.utterances(text, "bob", SpeechOptions(), 9.0, Notes())
        return [(piece.caption, piece.silence_before_s, piece.silence_after_s) for piece in pieces]

    assert silences("[[pause 500ms]] cat") == [("cat", 0.5, 0.0)]
    assert silences("[[pause 2s]] cat [[pause 3s]]") == [("cat", 2.0, 2.0)]
    assert silences("[[pause 2s]] " + "cat. " * 200)[0][1:] == (2.0, 0.0)
    assert silences("... cat") == [("cat", 0.0, 0.0)]


def test_short_forms_are_the_bundles_and_the_languages(reader: SpeechReader) -> None:
    assert {"Dr", "Prof", "approx"} <= set(reader.short_forms)
