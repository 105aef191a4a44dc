"""Collections of words and sentences, and which of them are spoken."""

from __future__ import annotations

from unimoe.data.text_sources import dialogue_lines, is_speakable, nouns, wordnet_examples, words_of

from .installed import needs_dictionary, needs_texts


@needs_dictionary
def test_only_plain_polite_words_of_the_dictionary_are_spoken() -> None:
    assert is_speakable("Well, isn't it Tom's?")
    assert not is_speakable("zzyzxq") and not is_speakable("4 apples") and not is_speakable("Kill it")
    assert not is_speakable("") and not is_speakable("a " * 30)
    assert words_of("Don't, Tom!") == ["don't", "tom"]


@needs_texts
def test_collections_are_large_and_end_in_marks() -> None:
    assert len(wordnet_examples()) > 30_000 and len(dialogue_lines()) > 1_000
    assert all(text[-1] in ".!?" for text in (*wordnet_examples()[:500], *dialogue_lines()[:500]))
    assert "spoon" in nouns("thing", frozenset({"spoon", "run"})) and nouns("thing", frozenset({"run"})) == ()
