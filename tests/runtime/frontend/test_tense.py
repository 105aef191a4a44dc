"""The tense of `read`: sentences made of every subject, auxiliary, adverb and time that shows it."""

from __future__ import annotations

import itertools
import time

import pytest

from unimoe_runtime.frontend.normalisation import open_language
from unimoe_runtime.frontend.tense import COMMA, is_past
from unimoe_runtime.frontend.tense_words import TENSE_WORDS, TenseWords

ENGLISH = open_language("en")
TABLES = TenseWords(**{name: ENGLISH.vocabulary(name).words for name in TENSE_WORDS})
SUBJECTS = ("he", "she", "everyone", "anna", "my little brother", "the man in the hat", "one of the boys")
OPEN_SUBJECTS = ("i", "you", "we", "they", "people", "the students", "tom and anna", "the children of this town")
BOUNDED_SUBJECTS = tuple(who for who in OPEN_SUBJECTS if who != "tom and anna")  # a name does not show where it starts
OBJECTS = ("it", "the whole book", "poems aloud")


def past(text: str) -> bool:
    words = text.replace(",", " ,").split()
    return is_past([COMMA if word == "," else word for word in words], words.index("read"), TABLES)


def wrong(texts: itertools.chain[str] | list[str], expected: bool) -> list[str]:
    found = list(texts)
    assert found
    return [text for text in found if past(text) != expected]


def test_a_singular_subject_without_an_auxiliary_is_in_the_past() -> None:
    adverbs = ("", "never ", "always ", "quickly ", "also ")
    texts = [f"{who} {how}read {what}" for who, how, what in itertools.product(SUBJECTS, adverbs, OBJECTS)]
    assert not wrong(texts, True)


@pytest.mark.parametrize("auxiliary", ["do", "did", "will", "can", "could", "should", "may", "won't", "didn't"])
def test_an_auxiliary_gives_the_base_form_also_before_its_subject(auxiliary: str) -> None:
    for who in (*SUBJECTS, *OPEN_SUBJECTS):
        texts = [
            f"{auxiliary} {who} read it yesterday",
            f"when {auxiliary} {who} ever read it",
            f"{who} {auxiliary} read",
        ]
        assert not wrong([*texts, f"{who} {auxiliary} not really read it last night"], False)


@pytest.mark.parametrize("auxiliary", ["have", "has", "had", "haven't", "hasn't"])
def test_a_perfect_auxiliary_gives_the_participle_also_before_its_subject(auxiliary: str) -> None:
    for who in (*SUBJECTS, *OPEN_SUBJECTS, "any of you", "any of the students"):
        texts = [
            f"{auxiliary} {who} ever read it",
            f"which books {auxiliary} {who} read",
            f"{who} {auxiliary} already read it",
        ]
        assert not wrong(texts, True)


@pytest.mark.parametrize("when", [*ENGLISH.vocabulary("past_times").words, "two days ago", "early this morning"])
def test_a_past_time_decides_where_the_subject_does_not(when: str) -> None:
    for who in OPEN_SUBJECTS:
        first = [f"{when} {who} read it"] if when != "last may" else []  # `may I read it?`
        assert not wrong([f"{who} read it {when}", f"{when}, {who} read it", *first], True)
        assert not wrong([f"{who} read it", f"{who} will read it {when}", f"{who} want to read it {when}"], False)


@pytest.mark.parametrize("when", ["every day", "always", "tomorrow", "on sunday", "whenever he comes"])
def test_other_times_leave_the_present(when: str) -> None:
    assert not wrong([f"{who} read it {when}" for who in OPEN_SUBJECTS], False)


@pytest.mark.parametrize(
    "verb", ["opened the letter", "sat down", "took it", "came home", "wrote a letter", "was tired"]
)
def test_a_coordinated_verb_in_the_past_decides(verb: str) -> None:
    for who in (*SUBJECTS, *OPEN_SUBJECTS):
        assert not wrong([f"{who} {verb} and read it", f"{who} {verb}, read it, and slept"], True)
        assert not wrong([f"{who} read it and {verb}", f"{who} {verb} and then quietly read it"], True)
    assert not wrong([f"when he {verb}, read it to him", f"he {verb} to sit and read"], False)


@pytest.mark.parametrize(
    "before", ["", "please", "and", "then", "to", "let's", "let him", "let the boy", "make anna", "hey siri"]
)
def test_commands_and_infinitives_are_base_forms(before: str) -> None:
    assert not wrong([f"{before} read {what}" for what in (*OBJECTS, "more", "this yesterday")], False)


@pytest.mark.parametrize("modal", ["could", "couldn't", "must", "should", "might", "would", "must certainly"])
def test_a_modal_of_the_past_decides_for_the_clause_after_it(modal: str) -> None:
    for who, told in itertools.product(BOUNDED_SUBJECTS, ("sworn", "thought", "really believed", "known that")):
        texts = [f"i {modal} have {told} {who} read it", f"she {modal} not have {told} {who} read it"]
        assert not wrong(texts, True)
        assert not wrong([f"i {modal} have {told} {who} will read it"], False)
    assert not wrong([f"i {modal} have left by the time you read it", f"they {modal} have us read it"], False)


@pytest.mark.parametrize("who", BOUNDED_SUBJECTS)
def test_what_was_read_and_what_is_wished_or_asked_shows_the_past(who: str) -> None:
    texts = [f"i wish {who} read it", f"she wished that {who} read more", f"he asked me if {who} read it"]
    texts += [f"the book {who} read was new", f"everything that {who} read had a map", f"the last book {who} read"]
    assert not wrong(texts, True)
    texts = [f"the books {who} read are new", f"everything {who} read has a map", f"on the last day, {who} read it"]
    assert not wrong([*texts, f"tell me if {who} read it", f"i could have {who} read it"], False)


@pytest.mark.parametrize("belief", ["think", "believe", "remember", "swear", "am sure"])
def test_one_believes_what_one_read_once(belief: str) -> None:
    assert not wrong([f"i {belief} i read it", f"i {belief} that i read about it", f"i {belief} i read this"], True)
    assert not wrong(
        [f"i {belief} i read well", f"i {belief} i read it every day", f"i {belief} people read it"], False
    )


@pytest.mark.parametrize("word", ENGLISH.vocabulary("before_participle").words)
def test_a_conjunction_directly_before_it_makes_a_participle(word: str) -> None:
    assert not wrong([f"{word} read aloud, it is short", f"delete it {word} read"], True)
    assert not wrong([f"{word} you read it, you will know"], False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("i wish i had read that", True),
        ("i'd already read it", True),
        ("i'd read it if i could", False),
        ("they ask that he read it", False),
        ("they said that he read it", True),
        ("the book read by millions", True),
        ("a widely read book", True),
        ("it is a good read", False),
        ("people who read", False),
        ("the man who read it", True),
        ("did that read well", False),
        ("i read that she won", True),
        ("if you read that", False),
        ("i read used books", False),
        ("children in an elementary school read above the average", False),
        ("having read it", True),
        ("to be read", True),
    ],
)
def test_single_constructions(text: str, expected: bool) -> None:
    assert past(text) == expected


def test_a_long_sentence_takes_time_in_proportion_to_its_length() -> None:
    def seconds(count: int) -> float:
        words = ["they", "and", "read", "of", "the"] * count
        start = time.process_time()
        for at in range(2, len(words), 5):
            is_past(words, at, TABLES)
        return time.process_time() - start

    assert seconds(2000) < 40 * seconds(200) + 0.1


def test_the_tables_agree() -> None:
    assert not set(TABLES.auxiliaries) & set(TABLES.perfect_auxiliaries)
    assert not set(TABLES.not_past_verbs) & set(TABLES.past_verbs)
    assert not set(TABLES.determiners) & set(TABLES.coordinators)
    assert all(len(when.split()) <= 3 for when in TABLES.past_times)
