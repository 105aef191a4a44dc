"""Codes and addresses are read character by character."""

from __future__ import annotations

import pytest

from unimoe_runtime.frontend.normalisation import open_language
from unimoe_runtime.frontend.normalisation.rules import Reading
from unimoe_runtime.frontend.reading import read_phrases


@pytest.mark.parametrize(
    ("reader", "text", "said"),
    [
        ("phone", "+1 (555) 0199", "plus one , five five five , zero one nine nine"),
        ("key", "3f9a8c", "three F nine A , eight C"),
        ("spell", "A1-b", "A one dash B"),
        ("address", "a.b@site.co.uk/x", "A dot B at site dot co dot U K slash X"),
        ("code", "GPT-3.5", "G P T three point five"),
        ("code", "X007", "X zero zero seven"),
    ],
)
def test_readers(reader: str, text: str, said: str) -> None:
    words = open_language("en").readers[reader](text, Reading(known=lambda word: word == "site"))
    assert words is not None and " ".join(words) == said


PAIRS = {"204": "two oh four", "815": "eight fifteen", "300": "three hundred", "1200": "twelve hundred",
         "1549": "fifteen forty nine", "1406": "fourteen oh six", "2000": "two thousand"}  # fmt: skip
CUES = ("room", "Room", "flight", "Suite", "highway", "Apt.", "room number", "Boeing", "Flight #", "bus")


@pytest.mark.parametrize("cue", CUES)
def test_numbers_of_rooms_flights_and_roads_are_said_in_pairs(cue: str) -> None:
    for written, said in PAIRS.items():
        for after in ("", ".", " is here", " to Boston", " and left"):
            [words] = read_phrases(f"in {cue} {written}{after}")
            assert f" {said}" in f" {' '.join(words)} ", (cue, written, after)
    assert read_phrases(f"in {cue} 66")[0][-2:] == ["sixty", "six"]


@pytest.mark.parametrize("written", PAIRS)
def test_a_quantity_after_such_a_word_is_a_number(written: str) -> None:
    for text in (f"a flight {written} miles long", f"a room {written} square feet large", f"page {written}"):
        assert "hundred" in read_phrases(text)[0] or "thousand" in read_phrases(text)[0]


@pytest.mark.parametrize("plane", ["A380", "A320", "A350", "A220"])
def test_airliners(plane: str) -> None:
    assert read_phrases(f"an {plane} landed")[0][1:3] == ["A", "two" if plane[1] == "2" else "three"]
    assert read_phrases("a 747 jet")[0][1:4] == ["seven", "forty", "seven"]
    assert read_phrases("the Boeing 737-800 landed")[0][2:7] == ["seven", "thirty", "seven", "eight", "hundred"]
    assert read_phrases("Flight BA 249")[0] == ["flight", "B", "A", "two", "forty", "nine"]
    assert read_phrases("the A303")[0][1:] == ["A", "three", "zero", "three"]
