"""Texts from installed collections: WordNet's examples and definitions, and ChatterBot's dialogue lines.

Only texts that consist of words of the pronouncing dictionary are used.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from functools import partial
from pathlib import Path
from typing import Final

from unimoe.data.cmudict import read_dictionary
from unimoe.data.npm import PRONUNCIATIONS, require_package
from unimoe.data.requirements import require_all
from unimoe.data.sentences import WORDNET, require_sentences
from unimoe_runtime.errors import OutputError

MOST_WORDS: Final = 24
_SENTENCE: Final = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*(?:[,;:]? [A-Za-z]+(?:['-][A-Za-z]+)*)*[.!?]?")
_ASKING: Final = re.compile(r"(what|who|whose|where|when|why|how|do|does|did|are|is|can|could|would) ", re.IGNORECASE)
_LEXICOGRAPHER_FILES: Final = {"animal": "05", "thing": "06", "food": "13", "place": "15"}
_RUDE: Final = re.compile(
    r"\b(sex\w*|rape\w*|nigg\w*|fuck\w*|shit\w*|whore\w*|slut\w*|porn\w*|penis|vagina|genital\w*|nazi\w*|jew\w*|hitler|"
    r"bastard\w*|bitch\w*|negro\w*|suicide|kill\w*|murder\w*|semen|excrement|urin\w*|feces|breast\w*|nude|naked|"
    r"terroris\w*|lesbian\w*|homosexual\w*|intercourse|heterosexual\w*|prostitut\w*|slave\w*|corpse\w*)\b",
    re.IGNORECASE,
)


def words_of(text: str) -> list[str]:
    """Words of a text in lower case, without its punctuation."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower())


def is_speakable(text: str) -> bool:
    """Whether a text consists of plain words and marks, is short enough, polite, and in the dictionary."""
    words = words_of(text)
    return (
        0 < len(words) <= MOST_WORDS
        and all(word in read_dictionary() for word in words)
        and re.search(r"[^A-Za-z',;:.!? -]", text) is None
        and not _RUDE.search(text)
    )


def require_texts() -> None:
    """Raise OutputError, one line, that names every collection of texts that is missing."""
    require_all((require_sentences, _dialogues, partial(require_package, PRONUNCIATIONS)))


def _dialogues() -> Path:
    """The folder of ChatterBot's dialogues."""
    found = importlib.util.find_spec("chatterbot_corpus")
    if found is None or found.origin is None or importlib.util.find_spec("yaml") is None:
        raise OutputError("the dialogues are not installed: `pip install --no-deps chatterbot-corpus pyyaml`")
    return Path(found.origin).parent / "data" / "english"


def _wordnet_lines(part: str) -> list[str]:
    require_sentences()
    return (WORDNET / f"data.{part}").read_text(encoding="latin-1").splitlines()


def _tidy(text: str) -> str:
    text = re.sub(r"(?<=\w)-(?=\w)", " ", text.strip().replace("`", "'"))
    if text[-1:] not in ".!?":
        text = text.rstrip(",;: ") + ("?" if _ASKING.match(text) else ".")
    return text[:1].upper() + text[1:]


@functools.cache
def wordnet_examples() -> tuple[str, ...]:
    """Example sentences of WordNet, in the order of its files."""
    found: dict[str, None] = {}
    for part in ("noun", "verb", "adj", "adv"):
        for line in _wordnet_lines(part):
            for example in re.findall(r'"([^"]+)"', line.partition("| ")[2]):
                if _SENTENCE.fullmatch(example.strip()) and len(words_of(example)) > 1 and is_speakable(example):
                    found[_tidy(example)] = None
    return tuple(found)


@functools.cache
def wordnet_definitions() -> tuple[str, ...]:
    """Definitions of WordNet's nouns and verbs, such as "A worker who shingles roofs."."""
    found: dict[str, None] = {}
    for part in ("noun", "verb"):
        for line in _wordnet_lines(part):
            gloss = line.partition("| ")[2].partition('; "')[0].strip()
            if _SENTENCE.fullmatch(gloss) and len(words_of(gloss)) > 4 and is_speakable(gloss):
                found[_tidy(gloss)] = None
    return tuple(found)


@functools.cache
def dialogue_lines() -> tuple[str, ...]:
    """Lines of ChatterBot's English dialogues. Raises OutputError where the package is missing."""
    folder = _dialogues()
    import yaml

    lines: dict[str, None] = {}
    for path in sorted(folder.glob("*.yml")):
        for conversation in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]:
            for line in conversation:
                text = str(line).replace("’", "'")
                if is_speakable(text):
                    lines[_tidy(text)] = None
    return tuple(lines)


@functools.cache
def nouns(kind: str, known: frozenset[str]) -> tuple[str, ...]:
    """WordNet's nouns of a kind ("animal", "thing", "food", "place") that are in `known`."""
    number = _LEXICOGRAPHER_FILES[kind]
    found: dict[str, None] = {}
    for line in _wordnet_lines("noun"):
        fields = line.split(" ")
        # The first word of a synset in its first sense is the word's usual meaning.
        if line[:1].isdigit() and fields[1] == number and fields[4] in known and fields[5] == "0":
            found[fields[4]] = None
    return tuple(word for word in found if word in read_dictionary() and not _RUDE.search(word))


@functools.cache
def adjectives(known: frozenset[str]) -> tuple[str, ...]:
    """WordNet's adjectives that are in `known`."""
    found: dict[str, None] = {}
    for line in _wordnet_lines("adj"):
        fields = line.split(" ")
        if line[:1].isdigit() and fields[4] in known and fields[4].islower():
            found[fields[4]] = None
    return tuple(word for word in found if word in read_dictionary() and not _RUDE.search(word))
