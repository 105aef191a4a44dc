"""Writes a front end for flite's voices: lexicon, letter-to-sound rules, duration table and frontend.json.

It asks flite for pronunciations once. The finished front end needs neither flite nor the network.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from unimoe.data.corpus import Corpus
from unimoe.data.flite import WEAK_FORMS, letter_names, phonemise
from unimoe.data.texts import DIGIT_WORDS, all_commands
from unimoe.data.words import common_words
from unimoe.training.frontend_settings import FrontEndRecipe, common_settings
from unimoe.training.letter_rules import learn_rules
from unimoe_runtime.errors import OutputError
from unimoe_runtime.files.atomic import write_atomically
from unimoe_runtime.frontend.durations import places
from unimoe_runtime.frontend.lexicon import SILENT, Lexicon
from unimoe_runtime.frontend.pronunciation import Phonemes

EXTRA_WORDS = (
    "zero eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty "
    "seventy eighty ninety hundred thousand first second third fourth fifth sixth seventh eighth ninth tenth twelfth "
    "twentieth thirtieth minus point percent plus equals dollar dollars pound pounds euro euros number degrees times "
    "oh o'clock hello doctor mister missus saint versus street half halves quarter quarters thirds cents pence"
).split()


def grammar_words() -> list[str]:
    """Every word of the digit strings and commands."""
    return sorted({word for text in (*DIGIT_WORDS, *all_commands()) for word in text.split()})


def learn_lexicon(recipe: FrontEndRecipe) -> Lexicon:
    """Ask flite for common words, learn rules from them, and list the words that the rules get wrong."""
    common = common_words(recipe.rule_words)
    kept = list(dict.fromkeys([*grammar_words(), *EXTRA_WORDS, *common[: recipe.known_words]]))
    sounds = phonemise(list(dict.fromkeys([*kept, *common])))
    plain = {word: found for word, found in sounds.items() if word.isalpha() and len(word) > 1}
    rules = learn_rules(plain)
    words = letter_names() | {word: sounds[word] for word in kept}
    bare = Lexicon(words=words, rules=rules)
    words |= {w: sounds[w] for w in common[: recipe.listed_words] if w not in words and bare.pronounce(w) != sounds[w]}
    return Lexicon(words=words | WEAK_FORMS, rules=rules)


def mean_durations(corpus: Corpus) -> dict[tuple[str, str, str], float]:
    """Mean seconds by (voice, phoneme, place) over the training split. Each phoneme also has an "inner" entry."""
    seen: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    for item in corpus.select(split="train", domain="speech"):
        ends_s = [end_s for _, end_s in item.phonemes]
        phonemes = [phoneme for phoneme, _ in item.phonemes]
        for phoneme, place, length_s in zip(phonemes, places(phonemes), np.diff([0.0, *ends_s]), strict=True):
            seen[item.voice, phoneme, place].append(float(length_s))
    means = {key: sum(values) / len(values) for key, values in seen.items()}
    voices = sorted({voice for voice, _, _ in seen})
    phonemes = sorted({phoneme for _, phoneme, _ in seen})
    for voice in voices:
        typical = float(np.median([mean for (name, _, place), mean in means.items() if name == voice]))
        for phoneme in phonemes:
            others = [mean for (_, name, place), mean in means.items() if name == phoneme and place == "inner"]
            known = means.get((voice, phoneme, "last"), sum(others) / len(others) if others else typical)
            means.setdefault((voice, phoneme, "inner"), known)
    return means


def write_rule_frontend(folder: Path, corpus: Corpus, recipe: FrontEndRecipe, *, frame_rate_hz: float) -> None:
    """Write a front end for the voices and instruments of `corpus`.

    Raises OutputError where the corpus never says a phoneme of the lexicon.
    """
    lexicon = learn_lexicon(recipe)
    means = mean_durations(corpus)
    phonemes = sorted({phoneme for _, phoneme, _ in means})
    readings = [*lexicon.words.values(), *lexicon.rules.values()]
    unseen = sorted({sound for reading in readings for sound in reading} - set(phonemes))
    if unseen:
        raise OutputError(f"the corpus never says the phoneme {unseen[0]!r}: render more phrases")
    settings = common_settings(corpus, recipe, phonemes, frame_rate_hz=frame_rate_hz)
    _write_table(folder / "lexicon.tsv", ((word, " ".join(found)) for word, found in sorted(lexicon.words.items())))
    _write_table(folder / "letter_to_sound.tsv", _rule_rows(lexicon.rules))
    _write_table(folder / "durations.tsv", ((*key, f"{mean:.4f}") for key, mean in sorted(means.items())))
    write_atomically(folder / "frontend.json", json.dumps(settings, indent=1) + "\n")


def _rule_rows(rules: Mapping[tuple[str, str, str], Phonemes]) -> Iterable[tuple[str, ...]]:
    for (left, letter, right), sounds in sorted(rules.items(), key=lambda rule: (rule[0][1], rule[0])):
        yield left, letter, right, " ".join(sounds) or SILENT


def _write_table(path: Path, rows: Iterable[Sequence[str]]) -> None:
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
