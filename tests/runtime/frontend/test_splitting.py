"""Long texts: the places of the cuts, and the audio of the pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.speaking_bundle import write_speaking_bundle
from unimoe_runtime.errors import PromptError
from unimoe_runtime.frontend.normalisation import INNER_PAUSE, Break, Item, Normaliser, Pause, Unit, open_language
from unimoe_runtime.frontend.splitting import halve_items, split_items
from unimoe_runtime.synthesis.request import Limits, SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer

LONG = "The cat. " * 30
NORMALISER = Normaliser(language=open_language("en"))


def letters(item: Item) -> float:
    """One second for each letter and for a pause."""
    return 1.0 if isinstance(item, Pause) else float(sum(map(len, item.words)))


def split(text: str, limit: float, first: float | None = None) -> list[str]:
    pieces = split_items(NORMALISER.read(text), letters, limit, first or limit)
    return [" ".join(word for item in piece if isinstance(item, Unit) for word in item.words) for piece in pieces]


@pytest.mark.parametrize(
    ("text", "limit", "pieces"),
    [
        ("One two. Three four.", 40, ["one two three four"]),
        ("One two. Three four.", 15, ["one two", "three four"]),
        ("Ask Dr. Who now. Then go.", 17, ["ask doctor who now", "then go"]),
        ("I met J. R. Smith here. He left.", 18, ["i met J R smith here", "he left"]),
        ('He said "No!" She went on.', 12, ["he said no", "she went on"]),
        ("It is 3.5 or so, maybe more", 24, ["it is three point five or so", "maybe more"]),
        ("it was so. and then he left. so it goes", 20, ["it was so", "and then he left", "so it goes"]),
        ("one two three four", 10, ["one two", "three four"]),
        ("a first line\n\nand a second", 16, ["a first line", "and a second"]),
        ("unbreakable", 5, ["unbreakable"]),
        ("from 5pm-7 pm on", 20, ["from five P M to seven P M", "on"]),
    ],
)
def test_cuts_between_sentences_then_clauses_then_words(text: str, limit: int, pieces: list[str]) -> None:
    assert split(text, limit) == pieces


@given(st.text("ab .,;:!?-\n\"'()ABC0123$%", max_size=200), st.integers(20, 60))
def test_no_word_is_lost_and_every_piece_fits_or_is_one_unit(text: str, limit: int) -> None:
    items = list(NORMALISER.read(text))
    pieces = list(split_items(items, letters, limit, 5))
    words = [word for item in items if isinstance(item, Unit) for word in item.words if word != ","]
    assert [w for piece in pieces for item in piece if isinstance(item, Unit) for w in item.words if w != ","] == words
    for piece in pieces:
        units = [item for item in piece if isinstance(item, Unit)]
        assert units
        assert sum(map(letters, units)) <= limit or len(units) == 1


def test_the_first_piece_of_a_long_text_is_short() -> None:
    text = "A very long first sentence, which has a clause, and then goes on for quite a while. " * 5
    assert split(text, 80, 20)[0] == "a very long first sentence"


def test_a_value_that_is_too_long_by_itself_is_cut_at_its_pauses() -> None:
    pieces = split("My key is 550e8400-e29b-41d4-a716-446655440000.", 60)
    assert " ".join(pieces).replace(" , ", " ").startswith("my key is five five zero E")
    assert len(pieces) > 2


@given(st.text("ab .,;:!?-\n\"'()ABC0123$%", max_size=200))
def test_halves_have_all_items_and_words_each(text: str) -> None:
    items = list(NORMALISER.read(text))
    words = [word for item in items if isinstance(item, Unit) for word in item.words if word != INNER_PAUSE]
    halves = halve_items(items)
    assert (halves is None) == (len(words) < 2)
    if halves is not None:
        each = [[word for item in half if isinstance(item, Unit) for word in item.words] for half in halves]
        assert all(set(half) - {INNER_PAUSE} for half in each)
        assert [word for half in each for word in half if word != INNER_PAUSE] == words


def test_halves_are_cut_at_a_pause_near_the_middle_and_never_inside_given_phonemes() -> None:
    halves = halve_items(list(NORMALISER.read("one two three. four, five six seven eight")))
    assert halves is not None
    assert [sum(isinstance(item, Unit) for item in half) for half in halves] == [3, 5]
    assert halve_items([Unit(words=("big", "cat"), written="big cat", sounds=("k", "ae", "t"))]) is None
    assert halve_items([Pause()]) is None


def test_pieces_come_as_they_are_asked_for() -> None:
    def endless() -> Iterator[Item]:
        while True:
            yield Unit(words=("word",), written="word")
            yield Pause(strength=Break.SENTENCE)

    assert len(list(islice(split_items(endless(), letters, 20, 5), 3))) == 3


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synthesizer]:
    with Synthesizer.open(write_speaking_bundle(tmp_path_factory.mktemp("speaker"))) as opened:
        yield opened


def request(text: str, **changes: object) -> SynthesisRequest:
    return replace(SynthesisRequest(text=text, voice="ann", seed=2), **changes)  # type: ignore[arg-type]


def test_a_long_text_is_its_pieces_one_after_the_other(speaker: Synthesizer) -> None:
    captions = [prepared.caption for prepared in speaker.frontend.prepare("speech", LONG, "ann")]
    assert len(captions) > 2
    parts = [speaker.synthesize(request(f"{caption.replace(', ', '. ')}.")) for caption in captions]
    steps: list[tuple[int, int]] = []
    whole = speaker.synthesize(request(LONG), progress=lambda done, expected: steps.append((done, expected)))
    np.testing.assert_array_equal(whole.codes_TK, np.concatenate([part.codes_TK for part in parts]))
    assert len(whole.pcm_L) == sum(len(part.pcm_L) for part in parts)
    assert whole.ended == all(part.ended for part in parts)
    assert whole.routing.steps == sum(part.routing.steps for part in parts) == steps[-1][0]
    assert whole.routing.launched == sum(part.routing.launched for part in parts)
    assert whole.caption.split(". ") == [part.caption for part in parts] == captions
    stream = speaker.stream(request(LONG))
    pcm_L = np.concatenate([chunk.pcm_L for chunk in stream])
    np.testing.assert_allclose(pcm_L, whole.pcm_L, rtol=0, atol=1e-5)
    assert stream.outcome.ended == whole.ended


def test_limits_hold_for_all_pieces_together(speaker: Synthesizer) -> None:
    whole = speaker.synthesize(request(LONG))
    captions = [prepared.caption for prepared in speaker.frontend.prepare("speech", LONG, "ann")]
    first = speaker.synthesize(request(f"{captions[0].replace(', ', '. ')}."))
    frames = len(first.codes_TK) + 5
    max_delay = max(speaker.bundle.model.delay_pattern)
    cut = speaker.synthesize(request(LONG, limits=Limits(max_steps=frames + max_delay + 1)))
    assert not cut.ended
    # The other codebooks' last frames are decoded with the end in sight.
    assert cut.codes_TK[:, 0].tolist() == whole.codes_TK[:frames, 0].tolist()


def test_closing_in_a_later_piece_leaves_what_was_given(speaker: Synthesizer) -> None:
    with speaker.stream(request(LONG)) as stream:
        for chunk in stream:
            if chunk.first_frame > 300:
                break
    assert not stream.outcome.ended
    assert len(stream.outcome.codes_TK) > 300


def test_a_text_without_words_is_refused_and_a_word_without_end_is_cut(speaker: Synthesizer) -> None:
    with pytest.raises(PromptError, match="nothing to say"):
        speaker.stream(request("..."))
    assert len(list(speaker.frontend.prepare("speech", "cat" * 60, "ann"))) > 1


def test_music_is_not_cut(speaker: Synthesizer) -> None:
    text = "flute, 120 bpm: " + "C4 " * 6
    assert len(list(speaker.frontend.prepare("music", text))) == 1


def test_a_long_pause_is_silence_between_two_pieces(speaker: Synthesizer) -> None:
    whole = speaker.synthesize(request("the cat [[pause 1.5s]] hello"))
    parts = [speaker.synthesize(request(text)) for text in ("the cat [[pause 1s]]", "hello")]
    prepared = list(speaker.frontend.prepare("speech", "the cat [[pause 1.5s]] hello", "ann"))
    assert [one.silence_after_s for one in prepared] == [0.5, 0.0]
    assert whole.caption == "the cat. hello"
    silence = len(whole.codes_TK) - sum(len(part.codes_TK) for part in parts)
    hop_samples = len(parts[0].pcm_L) // len(parts[0].codes_TK)
    assert silence == round(0.5 * whole.sample_rate_hz / hop_samples)


def test_pauses_around_the_words_are_silence_in_the_audio(speaker: Synthesizer) -> None:
    limits = Limits(min_steps=50)
    spoken = speaker.synthesize(request("hello [[pause 1s]]", limits=limits))
    whole = speaker.synthesize(request("[[pause 1.5s]] hello [[pause 2s]]", limits=limits))
    frame_s = len(spoken.pcm_L) / len(spoken.codes_TK) / spoken.sample_rate_hz
    before, after = round(1.5 / frame_s), round(1.0 / frame_s)
    assert len(whole.codes_TK) == before + len(spoken.codes_TK) + after
    np.testing.assert_array_equal(whole.codes_TK[before:-after], spoken.codes_TK)
    assert whole.ended == spoken.ended
    with speaker.stream(request("[[pause 1.5s]] hello [[pause 2s]]", limits=limits)) as stream:
        pcm_L = np.concatenate([chunk.pcm_L for chunk in stream])
    np.testing.assert_allclose(pcm_L, whole.pcm_L, rtol=0, atol=1e-5)
    assert stream.outcome.ended == whole.ended


def test_silence_counts_as_audio_for_a_limit(speaker: Synthesizer) -> None:
    for text in ("[[pause 1.5s]] hello", "[[pause 9s]] hello [[pause 9s]]"):
        cut = speaker.synthesize(request(text, limits=Limits(max_s=1.0)))
        assert 0.9 < cut.audio_s <= 1.0
        assert not cut.ended and not cut.words


def test_speed_shortens_what_is_expected(speaker: Synthesizer) -> None:
    slow, fast = (speaker.prepare(request("the cat", speed=speed)).expected_frames for speed in (0.5, 2.0))
    assert slow is not None and fast is not None and 3 < slow / fast < 5
