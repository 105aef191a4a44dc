"""Words whose pronunciation depends on their use: every one in sentences that show its use, and in commands."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.frontend.homographs import NEIGHBOURS, STAR, ByUse, Homographs, Neighbours, uses_of
from unimoe_runtime.frontend.normalisation import open_language
from unimoe_runtime.frontend.pronunciation import PHONEMES, Phonemes, Pronouncer
from unimoe_runtime.frontend.timeline import TimelineFrontEnd

ENGLISH = open_language("en")


def sounds(vocabulary: str) -> dict[str, Phonemes]:
    return {word: tuple(said.lower().split()) for word, said in ENGLISH.vocabulary(vocabulary).words.items()}


NOUNS, VERBS, CORRECTED, FIXED = map(sounds, ("noun_sounds", "verb_sounds", "corrections", "fixed_sounds"))


@pytest.fixture(scope="module")
def lexicon() -> ByUse:
    adjectives, usual = (ENGLISH.vocabulary(name).words for name in ("homograph_adjectives", "usual_verbs"))
    homographs = Homographs(
        uses=uses_of(NOUNS, VERBS, adjectives=adjectives, usual_verbs=usual, but=CORRECTED),
        neighbours=Neighbours(**{name: ENGLISH.vocabulary(name).words for name in NEIGHBOURS}),
        fixed={tuple(phrase.split()): said for phrase, said in FIXED.items()},
    )
    return ByUse(lexicon=Pronouncer(dictionary={}, sound_out=lambda word: ("ah1",)), homographs=homographs)


@functools.cache
def open_voices() -> TimelineFrontEnd:
    voices = open_frontend(Path(__file__).parents[3] / "checkpoints" / "voices" / "frontend")
    assert isinstance(voices, TimelineFrontEnd)
    return voices


def said(lexicon: ByUse, text: str, word: str) -> Phonemes:
    words = text.split()
    return lexicon.phrase_words(words)[words.index(word)]


@pytest.mark.parametrize("word", NOUNS)
def test_neighbours_show_the_use_of_every_word(lexicon: ByUse, word: str) -> None:
    for text in (f"my {word}", f"the {word} was here", f"a new {word} for her", f"it is a good {word}"):
        assert said(lexicon, text, word) == NOUNS[word], text
    for text in (f"{word} the door", f"please {word} it", f"we will {word} them", f"i want to {word}"):
        assert said(lexicon, text, word) == VERBS[word], text


def test_an_s_makes_a_plural_or_a_third_person(lexicon: ByUse) -> None:
    assert said(lexicon, "the records are new", "records")[:2] == ("r", "eh1")
    assert said(lexicon, "she records the song", "records")[:2] == ("r", "ih0")
    assert said(lexicon, "she uses it", "uses") == ("y", "uw1", "z", "ih0", "z")
    assert said(lexicon, "their uses", "uses") == ("y", "uw1", "s", "ih0", "z")
    assert said(lexicon, "he addresses me", "addresses")[-2:] == ("ih0", "z")


@pytest.mark.parametrize("phrase", FIXED)
def test_fixed_phrases_keep_their_reading_among_other_words(lexicon: ByUse, phrase: str) -> None:
    words = phrase.split()
    at = next(index for index, word in enumerate(words) if word.startswith(STAR))
    plain = [word.removeprefix(STAR) for word in words]
    for before, after in (([], []), (["well"], ["there"])):
        assert lexicon.phrase_words([*before, *plain, *after])[len(before) + at] == FIXED[phrase]


@pytest.mark.parametrize(
    ("text", "word", "first"),
    [
        ("record video now", "record", "r ih0"),
        ("play record", "record", "r eh1"),
        ("perfect timing", "perfect", "p er1"),
        ("we live in a live house", "live", "l ih1"),
        ("resume", "resume", "r ih0"),
        ("my resume", "resume", "r eh1"),
        ("students live in london", "live", "l ih1"),
        ("journalists refuse to tell", "refuse", "r ah0"),
        ("that use is fine", "use", "y uw1 s"),
        ("a lamp that produces light", "produces", "p r ah0"),
        ("transfer to savings", "transfer", "t r ae0"),
        ("they used to use it", "used", "y uw1 s t"),
        ("it is used to make tea", "used", "y uw1 z d"),
    ],
)
def test_commands_and_phrases(lexicon: ByUse, text: str, word: str, first: str) -> None:
    wanted = tuple(first.split())
    assert said(lexicon, text, word)[: len(wanted)] == wanted


def test_a_callers_own_pronunciation_comes_first(lexicon: ByUse) -> None:
    own = lexicon.with_words({"Record": ("k",), "live": ("l",)})
    assert own.phrase_words("please record live music".split())[1:3] == [("k",), ("l",)]
    assert lexicon.phrase_words(["record", "it"], {0: ("g",)})[0] == ("g",)


def test_the_voices_read_corrected_words_as_the_table_says() -> None:
    voices = open_voices()
    for word, sounds in CORRECTED.items():
        assert voices.speech.pronunciations.pronounce(word) == sounds, word


@pytest.mark.parametrize(
    "text", ["Yesterday, I read it.", "She took it, read it, and left.", "I've never, ever read it."]
)
def test_the_voices_read_a_verb_by_its_whole_sentence(text: str) -> None:
    voices = open_voices()
    said = {word.word: word.phonemes for word in voices.speech.whole(text, "heart").words}
    assert said["read"] == ("r", "eh1", "d")
    said = {word.word: word.phonemes for word in voices.speech.whole(f"{text} Read it.", "heart").words}
    assert said["read"] == ("r", "iy1", "d")  # the last one


SKIPPED = {
    "verb": (
        "we will only {} it",
        "they did not really {} it",
        "to properly {} sound",
        "i also {} them",
        "who will probably {} it",
    ),
    "inverted": (
        "does your company {} things",
        "did the police {} the call",
        "when can anna {} more",
        "does this old car {}",
    ),
    "noun": (
        "did the other {} help",
        "does this {} work",
        "it is a really good {}",
        "a truly great {}",
        "will your {} be ready",
    ),
}


@pytest.mark.parametrize("use", SKIPPED)
def test_adverbs_and_subjects_do_not_hide_what_shows_the_use(use: str) -> None:
    voices = open_voices()
    wanted = NOUNS if use == "noun" else VERBS
    texts = [(text.format(word), word) for text in SKIPPED[use] for word in NOUNS]
    pronunciations = voices.speech.pronunciations
    wrong = [text for text, word in texts if said(pronunciations, text, word) != wanted[word]]
    assert not wrong


def heard(texts: list[str], word: str) -> set[Phonemes]:
    spoken = [one for text in texts for one in open_voices().speech.whole(text, "heart").words]
    found = [one.phonemes for one in spoken if one.word == word]
    assert len(found) == len(texts)
    return set(found)


NAMES, PLACES = sounds("name_sounds"), sounds("place_sounds")


@pytest.mark.parametrize("name", NAMES)
def test_a_capital_makes_a_name_but_not_of_a_command(name: str) -> None:
    texts = [f"{name} food is good.", f"We like {name}.", f"The {name} film.", f"German, {name}, and Czech.", name]
    texts += [f"From Warsaw to {name} towns.", f"Two {name} Films", f"it is {name}"]
    assert heard(texts, name.lower()) == {NAMES[name]}
    plain = [f"please {name.lower()} it", f"a new {name.lower()}", f"{name} the table.", f"{name} your shoes."]
    plain += [f"{name} it well.", f"How To {name} Silver", f"{name.upper()} THE TABLE"]
    assert NAMES[name] not in heard(plain, name.lower())


@pytest.mark.parametrize("place", PLACES)
def test_a_place_with_a_capital_follows_a_preposition(place: str) -> None:
    texts = [f"I live {word} {place}." for word in ENGLISH.vocabulary("place_prepositions").words]
    assert heard(texts, place.lower()) == {PLACES[place]}
    plain = [f"{place} day.", f"Have a {place} Day", f"from a {place} house", f"progress in {place} Design"]
    assert PLACES[place] not in heard([*plain, f"in {place.lower()} weather"], place.lower())


def test_a_row_is_a_quarrel_only_where_that_is_certain() -> None:
    before = ("the front", "a long", "three in a", "we had a new", "sit in the third", "a")
    texts = [f"{words} row {after}" for words in before for after in ("of houses", "", "over there", "with me")]
    assert heard([*texts, "row the boat", "we had a row of trees", "row with me"], "row") == {("r", "ow1")}
    texts = [f"{have} a {kind}row {about}" for have in ("had", "have", "having") for about in ("with him", "about it")
             for kind in ("", "blazing ", "huge ")]  # fmt: skip
    assert heard([*texts, "a blazing row", "a row broke out", "it sparked a row"], "row") == {("r", "aw1")}


def test_tables_fit_each_other() -> None:
    assert NOUNS.keys() == VERBS.keys()
    assert all(NOUNS[word] != VERBS[word] for word in NOUNS)
    known = set(PHONEMES)
    assert all(known.issuperset(said) for table in (NOUNS, VERBS, CORRECTED, FIXED) for said in table.values())
    assert all(phrase.count(STAR) == 1 for phrase in FIXED)
    before = [set(ENGLISH.vocabulary(name).words) for name in ("before_noun", "before_verb")]
    after = [set(ENGLISH.vocabulary(name).words) for name in ("after_noun", "after_verb")]
    assert not before[0] & before[1] and not after[0] & after[1]
