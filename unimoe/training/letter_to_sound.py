"""Learns letter-to-sound rules from pronounced words; the runtime reads them (`unimoe_runtime.frontend.lexicon`).

Each word's phonemes are shared out among its letters, none to two a letter, by expectation-maximisation in its
Viterbi form. Rules are then collected from general to special contexts: one is kept where it is seen often enough
and says something else than the more general rules do (the idea of van den Bosch and Daelemans, IGTree, 1993).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping

from unimoe_runtime.frontend.lexicon import CONTEXTS, Phonemes, apply_rules, context

_MAX_SOUNDS = 2
_ROUNDS = 5
_UNSEEN = 1e-4
Rules = dict[tuple[str, str, str], Phonemes]
Table = dict[str, dict[Phonemes, float]]


def learn_rules(words: Mapping[str, Phonemes], *, min_count: int = 2) -> Rules:
    """Rules for the letters a … z from a lexicon of lower-case words.

    `min_count`: how many words must show that a special context differs before it gets a rule.
    """
    table = _first_guess(words)
    aligned: dict[str, list[Phonemes]] = {}
    for _ in range(_ROUNDS):
        aligned = {}
        for word, phonemes in words.items():
            shares = _align(word, phonemes, table)
            if shares is not None:
                aligned[word] = shares
        table = _count(aligned)
    rules: Rules = {("", letter, ""): _best(table, letter) for letter in "abcdefghijklmnopqrstuvwxyz"}
    for left, right in CONTEXTS[1:]:
        seen: defaultdict[tuple[str, str, str], Counter[Phonemes]] = defaultdict(Counter)
        general: dict[tuple[str, str, str], Phonemes] = {}
        for word, shares in aligned.items():
            for index, sounds in enumerate(shares):
                key = context(word, index, left, right)
                seen[key][sounds] += 1
                if key not in general:
                    general[key] = apply_rules(rules, word, index)
        for key, counts in seen.items():
            sounds, count = counts.most_common(1)[0]
            gain = count - counts[general[key]]
            if gain >= min_count:
                rules[key] = sounds
    return rules


def _best(table: Table, letter: str) -> Phonemes:
    """What a letter says without any context. That a vowel is silent must be learnt from its neighbours."""
    sounds = {sound: share for sound, share in table.get(letter, {}).items() if sound or letter not in "aeiou"}
    return max(sounds, key=lambda sound: sounds[sound]) if sounds else ()


def _first_guess(words: Mapping[str, Phonemes]) -> Table:
    """How often a phoneme stands about where the letter stands, every share from none to two phonemes allowed."""
    counts: defaultdict[str, Counter[Phonemes]] = defaultdict(Counter)
    for word, phonemes in words.items():
        if not phonemes:
            continue
        for index, letter in enumerate(word):
            at = index * len(phonemes) / len(word)
            for place in {int(at), min(len(phonemes) - 1, int(at + 0.99))}:
                counts[letter][phonemes[place],] += 1
    table = _normalised(counts)
    for sounds in table.values():
        for sound in list(sounds):
            sounds.setdefault((), 0.05)
            sounds[sound] *= 0.9
    return table


def _count(aligned: Mapping[str, list[Phonemes]]) -> Table:
    counts: defaultdict[str, Counter[Phonemes]] = defaultdict(Counter)
    for word, shares in aligned.items():
        for letter, sounds in zip(word, shares, strict=True):
            counts[letter][sounds] += 1
    return _normalised(counts)


def _normalised(counts: Mapping[str, Counter[Phonemes]]) -> Table:
    return {
        letter: {sounds: count / found.total() for sounds, count in found.items()} for letter, found in counts.items()
    }


def _align(word: str, phonemes: Phonemes, table: Table) -> list[Phonemes] | None:
    """The likeliest sharing out of `phonemes` among the letters of `word`; None where there is none."""
    if len(phonemes) > _MAX_SOUNDS * len(word):
        return None
    num_sounds = len(phonemes)
    best = [0.0] + [-math.inf] * num_sounds
    came: list[list[int]] = []
    for letter in word:
        known = table.get(letter, {})
        reached = [-math.inf] * (num_sounds + 1)
        taken = [0] * (num_sounds + 1)
        for start, score in enumerate(best):
            if score == -math.inf:
                continue
            for width in range(min(_MAX_SOUNDS, num_sounds - start) + 1):
                sounds = phonemes[start : start + width]
                share = known.get(sounds)
                if share is None:  # an unseen pair is as likely as its sounds are for this letter, at a price
                    share = _UNSEEN * max((known.get((sound,), _UNSEEN) for sound in sounds), default=1.0)
                total = score + math.log(share)
                if total > reached[start + width]:
                    reached[start + width], taken[start + width] = total, width
        best = reached
        came.append(taken)
    shares: list[Phonemes] = []
    end = num_sounds
    for taken in reversed(came):
        shares.append(phonemes[end - taken[end] : end])
        end -= taken[end]
    return shares[::-1]
