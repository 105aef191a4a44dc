"""Aligns a word's phonemes with its letters, none to two a letter, by expectation-maximisation (Viterbi form)."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping

from unimoe_runtime.frontend.pronunciation import Phonemes

_MAX_SOUNDS = 2
_ROUNDS = 5
_UNSEEN = 1e-4
Table = dict[str, dict[Phonemes, float]]
"""For each letter, the share of each group of phonemes."""


def learn_shares(words: Mapping[str, Phonemes]) -> Table:
    """Learn from pronounced words which phonemes each letter can have."""
    table = _first_guess(words)
    for _ in range(_ROUNDS):
        table = _count(align_words(words, table))
    return table


def align_words(words: Mapping[str, Phonemes], table: Table) -> dict[str, list[Phonemes]]:
    """Phonemes of each letter of each word. Words with more phonemes than their letters allow are left out."""
    aligned: dict[str, list[Phonemes]] = {}
    for word, phonemes in words.items():
        shares = _align(word, phonemes, table)
        if shares is not None:
            aligned[word] = shares
    return aligned


def _first_guess(words: Mapping[str, Phonemes]) -> Table:
    """How often a phoneme stands near the letter's position. Every group of none to two phonemes is possible."""
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
    """The most likely alignment of `phonemes` with the letters of `word`; None where there is none."""
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
                if share is None:  # an unseen group: the best share of its phonemes, reduced by a factor
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
