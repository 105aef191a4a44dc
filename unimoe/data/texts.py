"""Texts of the demo corpus: digit strings and short commands, and the split of a text.

Everything is drawn from a seed, so that the corpus is the same on every machine. Only the text decides a text's split:
in training, no voice speaks a text of the test split.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from typing import Final, Literal

Split = Literal["train", "valid", "test"]

DIGIT_WORDS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MAX_DIGITS: Final = 5
TEST_SHARE: Final = 0.08
VALID_SHARE: Final = 0.04

_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ROOMS = ("kitchen", "bedroom", "bathroom", "garden", "office", "hall", "garage", "living room")
_SIDES = ("front", "back", "left", "right")
_DAYS = ("today", "tomorrow", "monday", "tuesday", "friday", "sunday")
_NAMES = ("anna", "ben", "carol", "david", "emma", "frank", "grace", "henry", "mother", "the doctor")

# Each template is a sequence of slots. A command has one choice for each slot. An empty choice leaves the slot out.
COMMAND_TEMPLATES: Final[tuple[tuple[tuple[str, ...], ...], ...]] = (
    (("turn",), ("on", "off"), ("the",), _ROOMS, ("light", "fan", "heater", "lamp", "camera")),
    (("make the",), _ROOMS, ("light", "lamp"), ("red", "blue", "green", "white", "warm", "brighter", "darker")),
    (("set",), ("volume", "brightness", "temperature", "speed"), ("to",), _NUMBERS + _TENS),
    (("set a timer for", "wait for"), _NUMBERS, ("minutes", "seconds", "hours")),
    (("wake me at", "remind me at"), _NUMBERS, ("", "fifteen", "thirty", "forty five")),
    (("play",), ("the next", "the last", "the first", "another"), ("song", "track", "album", "station", "story")),
    (("open the", "close the", "lock the", "check the"), _SIDES, ("door", "window", "gate", "curtain")),
    (("start the", "stop the", "pause the"), ("music", "film", "radio", "washing machine", "recording")),
    (("call", "send a message to"), _NAMES, ("", "now", "at home", "at work")),
    (("go",), ("forward", "back", "left", "right"), _NUMBERS, ("steps", "meters")),
    (("show me the",), ("weather", "news", "traffic", "calendar"), ("for",), _DAYS),
    (("add",), ("milk", "bread", "butter", "apples", "coffee"), ("to the",), ("shopping list", "basket", "order")),
)


def split_of(text: str) -> Split:
    """Split of a text, from its SHA-256 alone. Single words are always in the training split: there are too few."""
    if " " not in text:
        return "train"
    share = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
    if share < TEST_SHARE:
        return "test"
    return "valid" if share < TEST_SHARE + VALID_SHARE else "train"


def all_commands() -> list[str]:
    """Every command that the templates allow, in a fixed order."""
    return [
        " ".join(word for word in words if word)
        for template in COMMAND_TEMPLATES
        for words in itertools.product(*template)
    ]


def draw_digit_strings(count: int, rng: random.Random) -> list[str]:
    """`count` different strings of 1 to 5 digit words. All lengths are equally likely."""
    possible = sum(len(DIGIT_WORDS) ** length for length in range(1, MAX_DIGITS + 1))
    if not 0 <= count <= possible:
        raise ValueError(f"count is {count}; there are {possible} digit strings of up to {MAX_DIGITS} words")
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[" ".join(rng.choices(DIGIT_WORDS, k=rng.randint(1, MAX_DIGITS)))] = None
    return list(texts)


def draw_commands(count: int, rng: random.Random) -> list[str]:
    """`count` different commands in random order; all of them where there are no more than that."""
    commands = all_commands()
    return rng.sample(commands, min(count, len(commands)))
