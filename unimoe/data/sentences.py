"""Free English sentences: the example sentences of WordNet 3.0 (Debian's wordnet-base), 3 to 10 common words each.

Some words are held out: no training sentence has one of them, so a test shows whether the model reads words that it
never heard.
"""

from __future__ import annotations

import functools
import hashlib
import random
import re
from pathlib import Path
from typing import Final

from unimoe.data.requirements import require_all, require_pocketsphinx
from unimoe.data.texts import DIGIT_WORDS, Split, all_commands, split_of
from unimoe.data.words import common_words
from unimoe_runtime.errors import OutputError

WORDNET: Final = Path("/usr/share/wordnet")
BETWEEN_SENTENCES: Final = "; "
FEWEST_WORDS: Final = 3
MOST_WORDS: Final = 10
HELD_OUT_SHARE: Final = 0.03
_KNOWN_WORDS = 30000  # the most frequent words; pocketsphinx knows them and can judge them
_ALWAYS_TRAINED = 1000  # the most frequent words; never held out
_SHORTEST_HELD_OUT = 4
_MOST_LETTERS = 60
_SENTENCE = re.compile(r"[A-Za-z]+(?:['-][a-z]+)*(?:,? [A-Za-z]+(?:['-][a-z]+)*)*[.!?]?")


@functools.cache
def _always_trained() -> frozenset[str]:
    spoken = {word for text in (*DIGIT_WORDS, *all_commands()) for word in text.split()}
    return frozenset(spoken | set(common_words(_ALWAYS_TRAINED)))


def is_held_out(word: str) -> bool:
    """Whether the word may not be in any training sentence. Only the word's SHA-256 decides.

    The thousand most frequent words and those of digits and commands are never held out.
    """
    if len(word) < _SHORTEST_HELD_OUT or word in _always_trained():
        return False
    share = int.from_bytes(hashlib.sha256(f"word {word}".encode()).digest()[:8], "big") / 2**64
    return share < HELD_OUT_SHARE


def words_of(text: str) -> list[str]:
    """Lower-case words of a sentence, without its punctuation."""
    return re.findall(r"[a-z']+", text.lower())


def split_of_sentence(text: str) -> Split:
    """Split of a sentence: test where one of its words is held out, else as for any text.

    A pair of sentences is in the training split only where both are.
    """
    splits = {
        "test" if any(map(is_held_out, words_of(sentence))) else split_of(sentence)
        for sentence in text.split(BETWEEN_SENTENCES)
    }
    return "test" if "test" in splits else "valid" if "valid" in splits else "train"


def require_sentences() -> None:
    """Raise OutputError where wordnet-base or pocketsphinx is not installed."""
    require_all((_require_wordnet, require_pocketsphinx))


def _require_wordnet() -> None:
    if not (WORDNET / "data.noun").exists():
        raise OutputError("WordNet is not installed: install it (Debian: apt install wordnet-base) for free sentences")


@functools.cache
def all_sentences() -> tuple[str, ...]:
    """Every usable sentence, in lower case with inner commas, in the order of WordNet's files.

    Raises OutputError as `require_sentences` does.
    """
    require_sentences()
    known = set(common_words(_KNOWN_WORDS))
    found: dict[str, None] = {}
    for part in ("noun", "verb", "adj", "adv"):
        for line in (WORDNET / f"data.{part}").read_text(encoding="latin-1").splitlines():
            for example in re.findall(r'"([^"]+)"', line.partition("| ")[2]):
                text = example.strip()
                if not _SENTENCE.fullmatch(text) or len(text) > _MOST_LETTERS:
                    continue
                text = text.lower().rstrip(".!?").replace("-", " ")
                words = words_of(text)
                if FEWEST_WORDS <= len(words) <= MOST_WORDS and all(word in known for word in words):
                    found[text] = None
    return tuple(found)


def draw_sentences(count: int, rng: random.Random) -> list[str]:
    """`count` different sentences in random order; all of them where there are no more than that."""
    sentences = all_sentences()
    return rng.sample(sentences, min(count, len(sentences)))


def draw_pairs(count: int, rng: random.Random) -> list[str]:
    """`count` pairs of sentences with a pause between them, so that a model also learns to speak for longer."""
    sentences = draw_sentences(2 * count, rng)
    return [BETWEEN_SENTENCES.join(pair) for pair in zip(sentences[::2], sentences[1::2], strict=False)]
