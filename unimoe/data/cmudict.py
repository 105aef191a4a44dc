"""The CMU Pronouncing Dictionary (BSD-style licence), from the npm package cmu-pronouncing-dictionary.

It has 125,000 words of American English in ARPAbet with stress. Its JavaScript file is parsed, not run.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Final

from unimoe.data.npm import PRONUNCIATIONS, package_folder
from unimoe_runtime.errors import OutputError
from unimoe_runtime.frontend.pronunciation import PHONEMES, Phonemes

_ENTRY: Final = re.compile(r'^\s*"?([^":]+)"?: "([A-Z0-9 ]+)",?$')
_WORD: Final = re.compile(r"[a-z]+(?:'[a-z]+)*'?")
_PREFERRED: Final = {
    word: tuple(sounds.split())
    for word, sounds in {
        "a": "ey1", "an": "ae1 n", "the": "dh ah1", "was": "w ah1 z", "and": "ae1 n d", "read": "r iy1 d",
        "wind": "w ih1 n d", "use": "y uw1 z", "in": "ih1 n", "record": "r eh1 k er0 d", "for": "f ao1 r",
        "live": "l ih1 v", "from": "f r ah1 m", "because": "b ih0 k ao1 z", "can": "k ae1 n", "our": "aw1 er0",
        "it's": "ih1 t s", "i'm": "ay1 m", "its": "ih1 t s", "your": "y ao1 r", "you're": "y ao1 r",
    }.items()
}  # fmt: skip
"""Words whose usual or strong form is not the first variant of the dictionary."""


@functools.cache
def read_dictionary() -> dict[str, Phonemes]:
    """Phonemes of each word of letters and apostrophes, one variant a word, in the dictionary's order."""
    return parse_dictionary(package_folder(PRONUNCIATIONS) / "index.js")


def parse_dictionary(path: Path) -> dict[str, Phonemes]:
    """Read the package's file. Raises OutputError where it holds anything other than pronunciations."""
    known = set(PHONEMES)
    variants: dict[str, list[Phonemes]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = _ENTRY.match(line)
        if entry is None:
            continue
        word, _, _ = entry[1].partition("(")
        sounds = tuple(entry[2].lower().split())
        if _WORD.fullmatch(word) and known.issuperset(sounds):
            variants.setdefault(word, []).append(sounds)
    if not variants:
        raise OutputError(f"{path} holds no pronunciations")
    return {word: _PREFERRED.get(word, found[0]) for word, found in variants.items()}
