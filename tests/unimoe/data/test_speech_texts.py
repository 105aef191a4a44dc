"""Texts to speak: phrases, recipes, balance and held-out words."""

from __future__ import annotations

import pytest

from unimoe.data.speech_texts import SHARES, SpeechRequest, SpeechTextRecipe, draw_requests, split_phrases
from unimoe.data.text_sources import is_speakable, words_of
from unimoe_runtime.errors import ConfigError
from unimoe_runtime.frontend.pronunciation import Phrase

from .installed import needs_texts


def test_phrases_keep_their_marks() -> None:
    assert split_phrases("Well, is it Tom's? no") == (
        Phrase(words=("well",), mark=","),
        Phrase(words=("is", "it", "tom's"), mark="?"),
        Phrase(words=("no",), mark="."),
    )
    assert split_phrases("A B?", letters=True) == (Phrase(words=("A", "B"), mark="?"),)
    assert split_phrases("A plan B")[0].words == ("a", "plan", "B")
    assert split_phrases("?!") == ()


def test_recipes_name_what_they_do_not_know() -> None:
    with pytest.raises(ConfigError, match="voices names 'nobody'"):
        SpeechTextRecipe(voices=("nobody",))
    with pytest.raises(ConfigError, match="shares names 'poems'"):
        SpeechTextRecipe(shares={"poems": 1.0})
    with pytest.raises(ConfigError, match="clips is 0"):
        SpeechTextRecipe(clips=0)


@pytest.mark.slow
@needs_texts
def test_any_beginning_is_balanced() -> None:
    recipe = SpeechTextRecipe(clips=600)
    requests = draw_requests(recipe)
    assert len(requests) == 600 and requests == draw_requests(recipe)
    assert {request.kind for request in requests} == set(SHARES)
    half = requests[:300]
    assert {request.voice for request in half} == set(recipe.voices)
    assert abs(sum(request.kind == "sentences" for request in half) / 300 - SHARES["sentences"]) < 0.12
    assert all(is_speakable(request.text) and request.phrases for request in requests)
    assert {request.split for request in requests} == {"train", "valid", "test"}


@pytest.mark.slow
@needs_texts
def test_held_out_words_are_never_trained_on() -> None:
    from unimoe.data.sentences import is_held_out

    for request in draw_requests(SpeechTextRecipe(clips=800, shares={"sentences": 0.5, "words": 0.5})):
        if any(map(is_held_out, words_of(request.text))):
            assert request.split == "test"
    assert SpeechRequest(key=0, kind="words", text="Kitchen.", voice="heart").split == "train"
