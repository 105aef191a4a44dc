"""Texts with markup: words, pauses, and parts that are left out with a warning."""

from __future__ import annotations

import time
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimoe_runtime.errors import PromptError
from unimoe_runtime.frontend.normalisation import INNER_PAUSE, Break, Normaliser, Pause, Unit, open_language
from unimoe_runtime.frontend.phonemes import parse_phonemes
from unimoe_runtime.frontend.reading import Notes, TextReader, blocks, read_phrases

PHONEMES = frozenset("pau aa ae ax ah b d eh er ey f iy k l m n ow r s t uw w".split())
READER = TextReader(
    normaliser=Normaliser(language=open_language("en")),
    phonemes=lambda written, alphabet: parse_phonemes(written, PHONEMES, alphabet),
)


def read(text: str, notes: Notes | None = None) -> str:
    """Words, and `|` for a pause: with its seconds, or repeated for a pause stronger than a clause's."""
    shown = []
    for item in READER.read(text, notes):
        if isinstance(item, Unit):
            shown += [word for word in item.words if word != INNER_PAUSE]
        elif item.seconds is not None:
            shown.append(f"|{item.seconds:g}")
        else:
            shown.append(
                {Break.CLAUSE: "|", Break.SENTENCE: "||", Break.LINE: "|||", Break.PARAGRAPH: "||||"}[item.strength]
            )
    return " ".join(shown)


@pytest.mark.parametrize("end", ['"', "”", ")", "]", "}", " -", " –", "—", ' ("x")'])
def test_a_text_that_ends_without_a_mark_ends_a_sentence(end: str) -> None:
    *_, last = READER.read(f"hello{end}")
    strongest = last.strength if isinstance(last, Pause) else Break.SENTENCE
    assert strongest == Break.SENTENCE and getattr(last, "mark", "") == ""
    *_, inner, _ = READER.read(f"hello{end} there")
    assert not isinstance(inner, Pause) or (inner.strength, inner.mark) == (Break.CLAUSE, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# A title\n\nSome **bold**, *slanted* and `code`.", "a title |||| some bold | slanted and code ||"),
        ("- one\n- two\n", "one ||| two |||"),
        ("* one\n* [x] two", "one ||| two"),
        ("1. one\n2. two", "one || one ||| two || two"),
        ("See [the docs](https://example.com/a_b) now", "see the docs now"),
        ("![a cat](cat.png) sleeps", "a cat sleeps"),
        ("> quoted\n> twice", "quoted ||| twice"),
        ("__strong__ ~~gone~~ _soft_", "strong gone soft"),
        ("```python\nprint\n```\nend", "||| print |||| end"),
        ("---\nend", "||| end"),
        ("| a1 | b2 |\n|---|---|\n| c3 | d4 |", "| A one | B two |||| C three | D four ||"),
        ("a * b and 2*3*4", "A times B and two times three times four"),
        ("snake_case_name", "snake case name"),
        ("text[^1] ends", "text ends"),
        ("<https://example.com>", "H T T P S colon slash slash example dot com"),
    ],
)
def test_markdown_is_removed(text: str, said: str) -> None:
    assert read(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one [[pause 500ms]] two", "one |0.5 two"),
        ("one [[pause 1.5s]] two", "one |1.5 two"),
        ("one [[pause 8s]] [[pause 8s]] two", "one |10 two"),
        ('one<break time="300ms"/>two', "one |0.3 two"),
        ("one. <break time='1s'/> two", "one |1 two"),
        ('one <break strength="strong"/> two', "one |0.7 two"),
        ("one <break/> two", "one |0.4 two"),
        ("<speak><p>One.</p><p>Two.</p></speak>", "|||| one |||| two ||||"),
        ('<say-as interpret-as="characters">USA1</say-as>', "U S A one"),
        ('<say-as interpret-as="spell-out">cat</say-as>', "C A T"),
        ('<say-as interpret-as="digits">1234</say-as>', "one two three four"),
        ('<say-as interpret-as="cardinal">1234</say-as>', "one thousand two hundred thirty four"),
        ('<say-as interpret-as="ordinal">3</say-as> of them', "third of them"),
        ('<say-as interpret-as="telephone">5550100</say-as>', "five five five zero one zero zero"),
        ('<say-as interpret-as="date">1/2/2020</say-as>', "january second twenty twenty"),
        ('<say-as interpret-as="fraction">3/4</say-as>', "three quarters"),
        ('<sub alias="World Wide Web">WWW</sub> now', "world wide web now"),
        ("fish &amp; chips &lt; 5", "fish and chips is less than five"),
        ("<b>bold</b><br/>next", "bold ||| next"),
        ("5 < 6 and 7 > 3", "five is less than six and seven is greater than three"),
        ("<!-- silent -->one", "one"),
    ],
)
def test_marks_are_obeyed(text: str, said: str) -> None:
    assert read(text) == said


def test_phonemes_stand_for_a_word() -> None:
    for text in (
        '<phoneme alphabet="ipa" ph="kæt">cat</phoneme> sat',
        '<phoneme alphabet="x-arpabet" ph="K AE1 T">cat</phoneme> sat',
        "[cat](/K AE1 T/) sat",
        "[cat](/ˈkæt/) sat",
        "[[K AE1 T]] sat",
    ):
        first, second = (item for item in READER.read(text) if isinstance(item, Unit))
        assert first.sounds == ("k", "ae", "t"), text
        assert second.words == ("sat",)


def test_a_rate_holds_for_what_it_encloses() -> None:
    text = 'one <prosody rate="slow">two <prosody rate="200%">three</prosody></prosody> four'
    rates = {item.words[0]: item.rate for item in READER.read(text) if isinstance(item, Unit)}
    assert rates == {"one": 1.0, "two": 0.75, "three": 1.5, "four": 1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<break time="soon"/>', "'soon' is not a length of time: write 500ms or 1.5s"),
        ("[[pause 5 minutes]]", "not a length of time"),
        ("[[pause 60s]]", "at most 10 s"),
        ('<break strength="huge"/>', "it can be none, x-weak"),
        ('<prosody rate="warp">a</prosody>', "rate is 'warp'"),
        ('<prosody rate="900%">a</prosody>', "from 0.25 to 4"),
        ('<phoneme ph="K QQ">a</phoneme>', "'QQ' is not a phoneme of this voice"),
        ("[name](/K QQ/)", "'QQ' is not a phoneme of this voice"),
        ("<phoneme>a</phoneme>", "has no ph"),
        ("<sub>a</sub>", "has no alias"),
        ("<say-as>a</say-as>", "has no interpret-as"),
    ],
)
def test_a_mark_without_a_meaning_is_one_line(text: str, message: str) -> None:
    with pytest.raises(PromptError, match=message) as refusal:
        read(text)
    assert "\n" not in str(refusal.value)


def test_what_is_left_out_is_named_once() -> None:
    notes = Notes()
    assert read("你好 hello 😀 <wobble>you</wobble> <wobble>two</wobble> 😀 Привет", notes) == "hello you two"
    assert notes.warnings == (
        "<wobble> is an unknown tag and is skipped",
        "left out, without a reading: 你好 😀 Привет",
    )
    notes = Notes()
    assert read('<say-as interpret-as="dance">5</say-as>', notes) == "five"
    assert notes.warnings == ("interpret-as 'dance' is unknown; the text is read as usual",)


def test_line_ends_are_pauses_but_not_inside_a_value() -> None:
    assert read("one\ntwo") == "one ||| two"
    assert read("one\n\n\ntwo") == "one |||| two"
    assert read("one\r\ntwo") == "one ||| two"
    assert read("It cost $1.5\nmillion.") == "it cost one point five million dollars ||"
    assert read("at 10\na.m. today") == "at ten A M today"


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        items = list(READER.read(text))
    except PromptError as refusal:
        assert "\n" not in str(refusal)
        return
    for item in items:
        if isinstance(item, Unit) and not item.sounds:
            assert item.words
            assert all(word.isascii() and word.strip() for word in item.words)
    pairs = pairwise(items)
    assert not any(isinstance(one, Pause) and isinstance(two, Pause) for one, two in pairs)


@given(st.text("ab \n.!?ABC\"'<>[]", max_size=9000))
@settings(max_examples=30, deadline=None)
def test_blocks_are_the_text(text: str) -> None:
    assert "".join(blocks(text)) == text


@pytest.mark.parametrize(
    "text", ["The cat sat on 12 mats. ", "word ", "a,b;", "1,", "$5 ", "<b>", "[[", "**", "x" * 50, "9", "é", "\n"]
)
def test_time_grows_with_the_length_alone(text: str) -> None:
    def cpu_s(length: int) -> float:
        repeated = text * (length // len(text))
        best = float("inf")
        for _ in range(2):
            began = time.process_time()
            for _ in READER.read(repeated):
                pass
            best = min(best, time.process_time() - began)
        return best

    small, large = cpu_s(3_000), cpu_s(24_000)
    assert large < 8 * 2.5 * small + 0.1


def test_the_first_words_of_a_megabyte_come_at_once() -> None:
    for text in ("The cat sat on 12 mats. " * 42_000, "word " * 200_000, "x" * 1_000_000, "9" * 1_000_000):
        began = time.process_time()
        assert list(islice(READER.read(text), 5))
        assert time.process_time() - began < 0.5


def test_words_of_corpora() -> None:
    assert read_phrases("A cat, 2 dogs. I saw plan B.") == [["a", "cat"], ["two", "dogs"], ["i", "saw", "plan", "B"]]
