"""Trains the letter-to-sound model on the pronouncing dictionary, and counts its errors on held-out words."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from unimoe.evaluation.word_errors import compare_tokens
from unimoe.training.letter_alignment import align_words, learn_shares
from unimoe.training.sequence_network import TorchSequenceNetwork, fit, padded, shuffled_batches
from unimoe_runtime.frontend.letter_to_sound import LETTERS, LetterToSound, letter_ids
from unimoe_runtime.frontend.pronunciation import Phonemes
from unimoe_runtime.frontend.sequence_network import SequenceNetworkConfig
from unimoe_runtime.records import JsonRecord

Example = tuple[list[int], list[int]]
"""The ids of a word's letters, and the number of each letter's group of phonemes."""
Batch = tuple[torch.Tensor, torch.Tensor]
"""ids_BP and groups_BP; a group of -1 is padding."""

HELD_OUT_SHARE = 0.02
_ALIGNED_FIRST = 15000  # words that teach which phonemes a letter can have
_RAREST_GROUP = 3


@dataclass(frozen=True, kw_only=True)
class LetterToSoundRecipe(JsonRecord):
    """Size and training of the model."""

    seed: int = 0
    channels: int = 128
    taps: int = 5
    blocks: int = 6
    epochs: int = 12
    batch_words: int = 256
    learning_rate: float = 2e-3
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class PronunciationErrors:
    """Shares of wrong phonemes and words on held-out words, with and without stress."""

    phonemes: float
    words: float
    phonemes_without_stress: float
    words_without_stress: float
    num_words: int


def is_held_out(word: str) -> bool:
    """Whether a word is in the test set and not in the training set. The word's SHA-256 decides."""
    share = int.from_bytes(hashlib.sha256(f"letters {word}".encode()).digest()[:8], "big") / 2**64
    return share < HELD_OUT_SHARE


def train_letter_to_sound(
    dictionary: Mapping[str, Phonemes],
    recipe: LetterToSoundRecipe,
    progress: Callable[[int, int, float], object] = lambda *_: None,
) -> LetterToSound:
    """Train on words of plain letters that are not held out. `progress` receives step, number of steps and loss."""
    words = {word: sounds for word, sounds in dictionary.items() if word.isalpha() and not is_held_out(word)}
    torch.manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    first = dict(rng.sample(sorted(words.items()), min(_ALIGNED_FIRST, len(words))))
    aligned = align_words(words, learn_shares(first))
    counts = Counter(group for shares in aligned.values() for group in shares)
    groups = [group for group, count in counts.most_common() if count >= _RAREST_GROUP or len(words) < _ALIGNED_FIRST]
    number = {group: at for at, group in enumerate(groups)}
    examples = [
        (letter_ids(word), [number[group] for group in shares])
        for word, shares in aligned.items()
        if all(group in number for group in shares)
    ]
    config = SequenceNetworkConfig(
        tables=(len(LETTERS) + 1,), channels=recipe.channels, taps=recipe.taps, dilations=(1,) * recipe.blocks,
        outputs=len(groups),
    )  # fmt: skip
    network = TorchSequenceNetwork(config, dropout=recipe.dropout)

    def loss_of(batch: Batch) -> torch.Tensor:
        ids_BP, groups_BP = batch
        scores_BPO = network((ids_BP,), ids_BP > 0)
        return functional.cross_entropy(scores_BPO.flatten(0, 1), groups_BP.flatten(), ignore_index=-1)

    total = recipe.epochs * -(-len(examples) // recipe.batch_words)
    losses = fit(
        network, lambda: _batches(examples, recipe.batch_words, rng), loss_of, num_steps=total,
        learning_rate=recipe.learning_rate, weight_decay=0.01,
    )  # fmt: skip
    for step, loss in enumerate(losses, start=1):
        progress(step, total, loss)
    return LetterToSound(network=network.to_numpy(), groups=tuple(groups))


def _batches(examples: Sequence[Example], size: int, rng: random.Random) -> Iterator[Batch]:
    """Batches of words of similar lengths, in random order."""
    lengths = [(len(ids) + rng.random() * 2, rng.random()) for ids, _ in examples]
    for batch in shuffled_batches(lengths, size, rng):
        yield padded([examples[at][0] for at in batch], 0), padded([examples[at][1] for at in batch], -1)


def pronunciation_errors(sound_out: Callable[[str], Phonemes], words: Mapping[str, Phonemes]) -> PronunciationErrors:
    """Errors on `words`."""
    totals = {True: [0, 0], False: [0, 0]}
    num_phonemes = 0
    for word, sounds in words.items():
        made = sound_out(word)
        num_phonemes += len(sounds)
        for stressed, counts in totals.items():
            said, heard = (sounds, made) if stressed else (_plain(sounds), _plain(made))
            errors = compare_tokens(said, heard).errors
            counts[0] += errors
            counts[1] += errors > 0
    return PronunciationErrors(
        phonemes=totals[True][0] / max(1, num_phonemes),
        words=totals[True][1] / max(1, len(words)),
        phonemes_without_stress=totals[False][0] / max(1, num_phonemes),
        words_without_stress=totals[False][1] / max(1, len(words)),
        num_words=len(words),
    )


def _plain(sounds: Phonemes) -> Phonemes:
    return tuple(sound.rstrip("012") for sound in sounds)
