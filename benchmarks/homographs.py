"""How often homographs get the pronunciation of their use, in the examples of WordNet.

    python -m benchmarks.homographs BUNDLE [--misses]

WordNet (`apt install wordnet-base`) gives each example as one of a noun, a verb or an adjective. Counted are all that
hold a word of `homographs.tsv`; its rules were written with these examples in view.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unimoe.data.sentences import WORDNET, require_sentences
from unimoe_runtime.errors import ConfigError
from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.frontend.timeline import TimelineFrontEnd

_WORDS = re.compile(r"[a-z]+(?:'[a-z]+)*")
_PHRASE_END = re.compile(r"[,;:.!?]")


@dataclass(frozen=True, kw_only=True)
class Example:
    """A phrase, and the place of the word that is a verb in it, or a noun or an adjective."""

    words: tuple[str, ...]
    at: int
    is_verb: bool


def examples() -> Iterator[Example]:
    """The examples of WordNet, each with the words of its entry that it holds."""
    require_sentences()
    for part in ("noun", "verb", "adj"):
        for line in (WORDNET / f"data.{part}").read_text(encoding="latin-1").splitlines():
            entry, _, gloss = line.partition("| ")
            if line.startswith("  ") or not gloss:
                continue
            fields = entry.split()
            listed = {fields[4 + 2 * n].partition("(")[0].lower() for n in range(int(fields[3], 16))}
            for quoted in re.findall(r'"([^"]+)"', gloss):
                for phrase in _PHRASE_END.split(quoted.lower()):
                    words = tuple(_WORDS.findall(phrase))
                    for word in sorted(listed.intersection(words)):
                        yield Example(words=words, at=words.index(word), is_verb=part == "verb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--misses", action="store_true", help="print the phrases with the other pronunciation")
    options = parser.parse_args()
    frontend = open_frontend(Path(options.bundle) / "frontend")
    if not isinstance(frontend, TimelineFrontEnd):
        raise ConfigError(f"{options.bundle}: its front end does not read phonemes")
    by_use, lexicon = frontend.speech.pronunciations, frontend.lexicon
    count = by_rules = by_lexicon = 0
    for example in examples():
        use = by_use.homographs.uses.get(example.words[example.at])
        if use is None:
            continue
        wanted = use.verb if example.is_verb else use.noun
        count += 1
        by_lexicon += lexicon.phrase_words(example.words)[example.at] == wanted
        if by_use.phrase_words(example.words)[example.at] == wanted:
            by_rules += 1
        elif options.misses:
            print(f"   {'verb' if example.is_verb else 'noun'} {example.words[example.at]}: {' '.join(example.words)}")
    print(f"{by_rules} of {count} right; by the dictionary's first reading {by_lexicon}")


if __name__ == "__main__":
    main()
