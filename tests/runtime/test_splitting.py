"""Long texts: where they are cut, and what a synthesizer makes of the pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.speaking_bundle import write_speaking_bundle
from unimoe_runtime.frontend.splitting import split_text
from unimoe_runtime.synthesis.request import Limits, SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer

LONG = "The cat. " * 30


@pytest.mark.parametrize(
    ("text", "limit", "pieces"),
    [
        ("One two. Three four.", 40, ["One two. Three four."]),
        ("One two. Three four.", 15, ["One two.", "Three four."]),
        ("Ask Dr. Who now. Then go.", 20, ["Ask Dr. Who now.", "Then go."]),
        ("I met J. R. Smith here. He left.", 25, ["I met J. R. Smith here.", "He left."]),
        ('He said "No!" She went on.', 15, ['He said "No!"', "She went on."]),
        ("It is 3.5 or so, maybe more", 18, ["It is 3.5 or so,", "maybe more"]),
        ("one two three four", 10, ["one two", "three four"]),
        ("a first line\n\nand a second", 16, ["a first line", "and a second"]),
        ("unbreakable", 5, ["unbreakable"]),
    ],
)
def test_cuts_between_sentences_then_clauses_then_words(text: str, limit: int, pieces: list[str]) -> None:
    assert split_text(text, lambda piece: len(piece) <= limit, ["Dr"]) == pieces


@given(st.text("ab .,;:!?-\n\"'()ABC0123", max_size=200), st.integers(1, 40))
def test_no_word_is_lost_and_every_piece_fits_or_is_one_word(text: str, limit: int) -> None:
    pieces = split_text(text, lambda piece: len(piece) <= limit, [])
    assert [word for piece in pieces for word in piece.split()] == text.split()
    assert all(len(piece) <= limit or len(piece.split()) <= 1 for piece in pieces)


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synthesizer]:
    with Synthesizer.open(write_speaking_bundle(tmp_path_factory.mktemp("speaker"))) as opened:
        yield opened


def test_a_long_text_is_its_pieces_one_after_the_other(speaker: Synthesizer) -> None:
    pieces = speaker.frontend.pieces("speech", LONG, "ann")
    assert len(pieces) > 2
    parts = [speaker.synthesize(SynthesisRequest(task="speech", text=piece, voice="ann", seed=2)) for piece in pieces]
    steps: list[tuple[int, int]] = []
    whole = speaker.synthesize(
        SynthesisRequest(task="speech", text=LONG, voice="ann", seed=2),
        progress=lambda done, expected: steps.append((done, expected)),
    )
    np.testing.assert_array_equal(whole.codes_TK, np.concatenate([part.codes_TK for part in parts]))
    assert len(whole.pcm_L) == sum(len(part.pcm_L) for part in parts)
    assert whole.ended == all(part.ended for part in parts)
    assert whole.routing.steps == sum(part.routing.steps for part in parts) == steps[-1][0]
    assert whole.routing.launched == sum(part.routing.launched for part in parts)
    assert whole.caption.split(". ") == [part.caption for part in parts]
    stream = speaker.stream(SynthesisRequest(task="speech", text=LONG, voice="ann", seed=2))
    pcm_L = np.concatenate([chunk.pcm_L for chunk in stream])
    np.testing.assert_allclose(pcm_L, whole.pcm_L, rtol=0, atol=1e-5)
    assert stream.outcome.ended == whole.ended


def test_limits_hold_for_all_pieces_together(speaker: Synthesizer) -> None:
    whole = speaker.synthesize(SynthesisRequest(task="speech", text=LONG, voice="ann", seed=2))
    first = speaker.synthesize(
        SynthesisRequest(task="speech", text=speaker.frontend.pieces("speech", LONG, "ann")[0], seed=2)
    )
    frames = len(first.codes_TK) + 5
    max_delay = max(speaker.bundle.model.delay_pattern)
    cut = speaker.synthesize(
        SynthesisRequest(task="speech", text=LONG, voice="ann", seed=2, limits=Limits(max_steps=frames + max_delay + 1))
    )
    assert not cut.ended
    # The other codebooks' last frames are decoded with the end in sight.
    assert cut.codes_TK[:, 0].tolist() == whole.codes_TK[:frames, 0].tolist()


def test_closing_in_a_later_piece_leaves_what_was_given(speaker: Synthesizer) -> None:
    first = speaker.synthesize(
        SynthesisRequest(task="speech", text=speaker.frontend.pieces("speech", LONG, "ann")[0], seed=2)
    )
    with speaker.stream(SynthesisRequest(task="speech", text=LONG, voice="ann", seed=2)) as stream:
        for chunk in stream:
            if chunk.first_frame > len(first.codes_TK):
                break
    assert not stream.outcome.ended
    assert len(stream.outcome.codes_TK) > len(first.codes_TK)


def test_a_text_without_words_and_a_word_without_end_are_refused(speaker: Synthesizer) -> None:
    for text, message in (("...", "nothing to say"), ("cat" * 60, "the limit is 60")):
        with pytest.raises(Exception, match=message):
            speaker.stream(SynthesisRequest(task="speech", text=text, voice="ann"))


def test_music_is_not_cut(speaker: Synthesizer, tmp_path: Path) -> None:
    text = "flute, 120 bpm: " + "C4 " * 40
    assert speaker.frontend.pieces("music", text) == [text]
