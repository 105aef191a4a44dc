"""Common English words, most frequent first, from the unigrams of pocketsphinx's own model (BSD licence).

The corpus phrases are drawn from these words. The demo's lexicon and letter-to-sound rules are learnt from them.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

from unimoe.data.requirements import require_pocketsphinx

MAX_PHRASE_WORDS = 6
COMMA_SHARE = 0.25


def common_words(count: int) -> list[str]:
    """The `count` most frequent words of letters and apostrophes. Raises OutputError where pocketsphinx is missing."""
    require_pocketsphinx()
    import pocketsphinx

    dictionary = Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"))
    model = pocketsphinx.NGramModel(
        pocketsphinx.Config(), pocketsphinx.LogMath(), pocketsphinx.get_model_path("en-us/en-us.lm.bin")
    )
    words = {line.split()[0] for line in dictionary.read_text(encoding="utf-8").splitlines()}
    spelled = sorted(word for word in words if re.fullmatch(r"[a-z]+(?:'[a-z]+)?", word) and len(word) > 1)
    spelled += ["a", "i"]
    return sorted(spelled, key=lambda word: -model.prob([word]))[:count]


def draw_phrases(count: int, words: list[str], rng: random.Random) -> list[str]:
    """`count` different strings of 2 to 6 words, all words equally likely. One in four has a comma inside."""
    texts: dict[str, None] = {}
    while len(texts) < count:
        chosen = rng.choices(words, k=rng.randint(2, MAX_PHRASE_WORDS))
        if rng.random() < COMMA_SHARE:
            chosen[rng.randrange(len(chosen) - 1)] += ","
        texts[" ".join(chosen)] = None
    return list(texts)
