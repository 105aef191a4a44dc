"""The texts of the speech corpus: a number of each kind, drawn from a seed and shuffled.

Any prefix of the list is a balanced corpus, so rendering may stop at any hour.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from unimoe.data.cmudict import read_dictionary
from unimoe.data.kokoro import VOICES
from unimoe.data.sentences import is_held_out
from unimoe.data.text_sources import (
    adjectives,
    dialogue_lines,
    is_speakable,
    nouns,
    wordnet_definitions,
    wordnet_examples,
    words_of,
)
from unimoe.data.text_templates import (
    DOINGS,
    FURNITURE,
    TASTES,
    TEMPLATES,
    VERBS,
    Slots,
    expand,
    number_slots,
)
from unimoe.data.texts import Split, draw_commands, draw_digit_strings, split_of
from unimoe.data.words import common_words
from unimoe_runtime.errors import ConfigError
from unimoe_runtime.frontend.pronunciation import MARKS, Phrase
from unimoe_runtime.records import JsonRecord

SHARES: Final = {
    "sentences": 0.36, "definitions": 0.08, "lines": 0.05, "dialogue": 0.11, "questions": 0.08, "numbers": 0.06,
    "dates": 0.04, "names": 0.04, "announcements": 0.04, "words": 0.04, "letters": 0.02, "long": 0.04, "digits": 0.02,
    "commands": 0.02,
}  # fmt: skip
"""Share of each kind among the clips."""
_SLOT_WORDS: Final = 8000
_TRIES: Final = 40
_TOKEN: Final = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|[,;:.!?]")
ANIMALS: Final = (
    "cat dog horse cow sheep goat duck chicken rabbit mouse fox bear wolf deer snake frog parrot turtle".split()
)
PLACES: Final = (
    "station", "museum", "library", "market", "airport", "hotel", "bakery", "bank", "theater", "zoo", "gym", "harbor",
    "post office", "town hall", "swimming pool", "supermarket", "church", "park", "hospital", "school",
)  # fmt: skip
FIRST_NAMES: Final = (
    "Alice Andrew Anna Anthony Barbara Ben Brian Carol Charles Claire Daniel David Diana Edward Ellen Emily Emma Eric "
    "Frank George Grace Hannah Harry Helen Henry Isabel Jack James Jane Jason Jennifer Jessica John Julia Karen Kate "
    "Kevin Laura Linda Lucy Maria Mark Martin Mary Michael Nancy Nicole Oliver Oscar Patricia Paul Peter Rachel Robert "
    "Rosa Ruth Samuel Sarah Simon Sophie Steven Susan Thomas Victor Walter William"
).split()
LAST_NAMES: Final = (
    "Adams Allen Anderson Baker Bell Bennett Brooks Brown Campbell Carter Clark Collins Cooper Davis Edwards Evans "
    "Fisher Foster Garcia Gray Green Hall Harris Hill Howard Hughes Jackson Johnson Jones Kelly King Lee Lewis "
    "Martinez "
    "Miller Mitchell Moore Morgan Morris Murphy Nelson Parker Peterson Phillips Powell Price Reed Richardson Roberts "
    "Robinson Rogers Russell Sanders Scott Simmons Smith Stewart Sullivan Taylor Thompson Turner Walker Ward Watson "
    "White Williams Wilson Wright Young"
).split()
CITIES: Final = (
    "London", "Paris", "Berlin", "Madrid", "Rome", "Vienna", "Prague", "Warsaw", "Athens", "Lisbon", "Dublin", "Oslo",
    "Stockholm", "Moscow", "Cairo", "Nairobi", "Tokyo", "Beijing", "Seoul", "Sydney", "Melbourne", "Toronto",
    "Montreal",
    "Boston", "Chicago", "Denver", "Seattle", "Dallas", "Houston", "Atlanta", "Miami", "Phoenix", "Portland", "Detroit",
    "Philadelphia", "New York", "Los Angeles", "San Francisco", "Mexico City", "Buenos Aires", "Edinburgh", "Glasgow",
    "Manchester", "Liverpool", "Oxford", "Cambridge", "Bristol", "Geneva", "Munich", "Hamburg", "Brussels", "Amsterdam",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SpeechRequest:
    """One clip to be spoken. `key`: its number in the list; `text`: words and marks as spoken, numbers written out."""

    key: int
    kind: str
    text: str
    voice: str

    @property
    def split(self) -> Split:
        """Test where a word is held out, else by the text alone. Single words are trained on unless held out."""
        return "test" if any(map(is_held_out, words_of(self.text))) else split_of(self.text)

    @property
    def phrases(self) -> tuple[Phrase, ...]:
        """The text as it is pronounced. In spelled letters, each letter is its name, including "A"."""
        return split_phrases(self.text, letters=self.kind == "letters")


@dataclass(frozen=True, kw_only=True)
class SpeechTextRecipe(JsonRecord):
    """`clips` in all, the `shares` of each kind, and the voices that speak them in turn."""

    seed: int = 0
    clips: int = 16000
    voices: tuple[str, ...] = ("heart", "bella", "michael", "puck", "emma", "george")
    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))

    def check_together(self) -> None:
        for name, given, known in (("voices", self.voices, VOICES), ("shares", self.shares, SHARES)):
            if unknown := sorted(set(given) - set(known)):
                raise ConfigError(f"{name} names {unknown[0]!r}; it must be one of {', '.join(known)}")
        if self.clips < 1 or not self.voices:
            raise ConfigError(f"clips is {self.clips} of {len(self.voices)} voices; both must be at least 1")


def split_phrases(text: str, *, letters: bool = False) -> tuple[Phrase, ...]:
    """Phrases of a text of plain words and marks. Single letters are names of letters where `letters` is set.

    A single capital other than A and I always is one. The last phrase ends with "." where it has no mark.
    """
    phrases: list[Phrase] = []
    words: list[str] = []
    for token in _TOKEN.findall(text):
        if token not in MARKS:
            is_letter = len(token) == 1 and token.isupper() and (letters or token not in "AI")
            words.append(token if is_letter else token.lower())
        elif words:
            phrases.append(Phrase(words=tuple(words), mark=token))
            words = []
    if words:
        phrases.append(Phrase(words=tuple(words), mark="."))
    return tuple(phrases)


def draw_requests(recipe: SpeechTextRecipe) -> list[SpeechRequest]:
    """Every request of a recipe, shuffled. No voice says the same text twice."""
    rng = random.Random(recipe.seed)
    makers = _makers()
    drawn: list[tuple[str, str]] = []
    for kind, share in recipe.shares.items():
        count, seen = round(share * recipe.clips), set[str]()
        for _ in range(_TRIES * count):
            if len(seen) == count:
                break
            text = makers[kind](rng)
            if text not in seen and is_speakable(text):
                seen.add(text)
                drawn.append((kind, text))
    rng.shuffle(drawn)
    voices = recipe.voices
    return [
        SpeechRequest(key=key, kind=kind, text=text, voice=voices[key % len(voices)])
        for key, (kind, text) in enumerate(drawn)
    ]


def _makers() -> dict[str, Callable[[random.Random], str]]:
    """A function for each kind that makes a text."""
    slots = {**word_slots(), **number_slots()}
    vocabulary = [word for word in common_words(30000) if word in read_dictionary() and "'" not in word]
    digits = iter(draw_digit_strings(20000, random.Random("digits")))
    commands = iter(draw_commands(100000, random.Random("commands")))

    def templated(kind: str) -> Callable[[random.Random], str]:
        return lambda rng: expand(rng.choice(TEMPLATES[kind]), slots, rng)

    def long(rng: random.Random) -> str:
        several = rng.sample(wordnet_examples(), 2)
        joint = rng.choice([", and ", "; ", ", but ", " "])
        first = several[0] if joint == " " else several[0].rstrip(".!?")
        second = several[1] if joint == " " else several[1][:1].lower() + several[1][1:]
        return first + joint + second

    return {
        "sentences": lambda rng: rng.choice(wordnet_examples()),
        "definitions": lambda rng: rng.choice(wordnet_definitions()),
        "lines": lambda rng: rng.choice(dialogue_lines()),
        **{kind: templated(kind) for kind in TEMPLATES},
        "words": lambda rng: rng.choice(vocabulary).capitalize() + rng.choice([".", ".", ".", "?", "!"]),
        "letters": _letters,
        "long": long,
        "digits": lambda rng: next(digits, "").capitalize() + ".",
        "commands": lambda rng: next(commands, "").capitalize() + ".",
    }


def _letters(rng: random.Random) -> str:
    drawn = [rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(rng.randint(1, 6))]
    return rng.choice([" ", ", "]).join(drawn) + "."


def word_slots() -> Slots:
    """Slots for names and things."""
    known = frozenset(common_words(_SLOT_WORDS))
    things, foods = nouns("thing", known), nouns("food", known)
    plurals = [f"{thing}s" for thing in things if f"{thing}s" in read_dictionary()]
    kinds = {
        "thing": things, "food": foods, "things": plurals, "adjective": adjectives(known), "animal": ANIMALS,
        "place": PLACES, "first": FIRST_NAMES, "last": LAST_NAMES, "city": CITIES, "furniture": FURNITURE,
        "verb": VERBS, "taste": TASTES, "doing": DOINGS,
    }  # fmt: skip

    def choose(entries: Sequence[str]) -> Callable[[random.Random], str]:
        return lambda rng: rng.choice(entries)

    return {name: choose(entries) for name, entries in kinds.items()}
