"""Trains the duration predictor on a spoken corpus, and measures its errors on held-out clips.

Shapes: B clips, P phonemes.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from unimoe.data.corpus import CorpusError, Item
from unimoe.training.sequence_network import TorchSequenceNetwork, fit, padded, shuffled_batches
from unimoe_runtime.errors import OutputError
from unimoe_runtime.frontend.duration_predictor import SYMBOLS, DurationPredictor, symbol_ids, table_sizes
from unimoe_runtime.frontend.pronunciation import Phonemes
from unimoe_runtime.frontend.sequence_network import SequenceNetworkConfig
from unimoe_runtime.records import JsonRecord

Example = tuple[tuple[list[int], ...], list[float]]
"""The ids of a clip's phonemes, a list for each table, and their seconds."""
Batch = tuple[tuple[torch.Tensor, ...], torch.Tensor]
"""ids_BP of each table, and seconds_BP."""

_SHORTEST_LOSS_S = 0.03


@dataclass(frozen=True, kw_only=True)
class DurationRecipe(JsonRecord):
    """Size and training of the predictor."""

    seed: int = 0
    channels: int = 128
    taps: int = 5
    dilations: tuple[int, ...] = (1, 1, 2, 2, 4, 1)
    epochs: int = 15
    batch_clips: int = 24
    learning_rate: float = 2e-3
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class TimedText:
    """A clip as the predictor sees it: words with phonemes (a pause is a word), and the seconds of each phoneme."""

    voice: str
    words: tuple[Phonemes, ...]
    seconds_P: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class DurationErrors:
    """Means over held-out clips.

    `phoneme_ms`: error of a phoneme's duration. `middle_ms`: error of the position of a phoneme's middle, accumulated
    from the start. `total`: error of the clip's length as a share of it.
    """

    phoneme_ms: float
    middle_ms: float
    total: float
    num_clips: int


def timed_text(item: Item) -> TimedText:
    """Convert a corpus item with word numbers to the predictor's view of it."""
    sounds = [sound for sound, _ in item.phonemes]
    if unknown := sorted(set(sounds) - set(SYMBOLS)):
        raise CorpusError(f"the clip {item.text[:60]!r} has the phoneme {unknown[0]!r}, which the teacher lacks")
    seconds = np.diff([0.0, *(end_s for _, end_s in item.phonemes)])
    # Each pause is a word of its own, even where two pauses follow one another.
    numbers = [number if number >= 0 else -1 - at for at, number in enumerate(item.word_numbers)]
    groups = groupby(range(len(sounds)), key=lambda at: numbers[at])
    words = tuple(tuple(sounds[at] for at in places) for _, places in groups)
    return TimedText(voice=item.voice, words=words, seconds_P=tuple(float(length) for length in seconds))


def train_durations(
    texts: Sequence[TimedText],
    voices: Sequence[str],
    recipe: DurationRecipe,
    progress: Callable[[int, int, float], object] = lambda *_: None,
) -> DurationPredictor:
    """Train on clips. Returns the predictor. `progress` receives step, number of steps and loss.

    Raises OutputError where there are no clips.

    The loss is that of a gamma distribution, d / p + log p for a duration d and a prediction p. It makes the means
    unbiased, and so the position of each phoneme.
    """
    if not texts:
        raise OutputError("there are no clips with word numbers to learn durations from")
    torch.manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    config = SequenceNetworkConfig(
        tables=table_sizes(len(voices)), channels=recipe.channels, taps=recipe.taps, dilations=recipe.dilations,
        outputs=1,
    )  # fmt: skip
    network = TorchSequenceNetwork(config, dropout=recipe.dropout)
    with torch.no_grad():
        network.weights["bias"].fill_(float(np.log(0.08)))
        network.weights["head"].mul_(0.1)
    examples = [_example(text, voices) for text in texts]

    def loss_of(batch: Batch) -> torch.Tensor:
        ids, seconds_BP = batch
        mask_BP = ids[0] > 0
        log_s_BP = network(ids, mask_BP)[..., 0]
        padded_BP = seconds_BP + _SHORTEST_LOSS_S
        predicted_BP = torch.exp(log_s_BP) + _SHORTEST_LOSS_S
        loss_BP = padded_BP / predicted_BP + torch.log(predicted_BP / padded_BP) - 1
        return loss_BP[mask_BP].mean()

    total = recipe.epochs * -(-len(examples) // recipe.batch_clips)
    losses = fit(
        network, lambda: _batches(examples, recipe.batch_clips, rng), loss_of, num_steps=total,
        learning_rate=recipe.learning_rate, weight_decay=0.02,
    )  # fmt: skip
    for step, loss in enumerate(losses, start=1):
        progress(step, total, loss)
    return DurationPredictor(network=network.to_numpy(), voices=tuple(voices), means=mean_seconds(texts, voices))


def _example(text: TimedText, voices: Sequence[str]) -> Example:
    symbols, places, marks = symbol_ids(text.words)
    return (symbols, [voices.index(text.voice)] * len(symbols), places, marks), list(text.seconds_P)


def _batches(examples: Sequence[Example], size: int, rng: random.Random) -> Iterator[Batch]:
    """Batches of clips of similar lengths, in random order."""
    lengths = [len(seconds_P) * (1 + 0.2 * rng.random()) for _, seconds_P in examples]
    for batch in shuffled_batches(lengths, size, rng):
        tables = tuple(padded([examples[at][0][table] for at in batch], 0) for table in range(4))
        yield tables, padded([examples[at][1] for at in batch], 0)


def duration_errors(predict: Callable[[TimedText], Sequence[float]], texts: Sequence[TimedText]) -> DurationErrors:
    """Errors of a predictor on clips."""
    phonemes: list[float] = []
    middles: list[float] = []
    totals: list[float] = []
    for text in texts:
        true_P, made_P = np.array(text.seconds_P), np.array(predict(text))
        phonemes += np.abs(made_P - true_P).tolist()
        middles += np.abs((np.cumsum(made_P) - made_P / 2) - (np.cumsum(true_P) - true_P / 2)).tolist()
        totals.append(abs(made_P.sum() - true_P.sum()) / true_P.sum())
    return DurationErrors(
        phoneme_ms=1000 * float(np.mean(phonemes)),
        middle_ms=1000 * float(np.mean(middles)),
        total=float(np.mean(totals)),
        num_clips=len(texts),
    )


def mean_seconds(texts: Sequence[TimedText], voices: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean seconds of each symbol in each voice, or over all voices where a voice never says it."""
    seen: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for text in texts:
        sounds = [sound for word in text.words for sound in word]
        for sound, seconds in zip(sounds, text.seconds_P, strict=True):
            seen[text.voice, sound].append(seconds)
            seen["", sound].append(seconds)
    symbols = sorted({sound for _, sound in seen})
    return {
        voice: {sound: round(float(np.mean(seen.get((voice, sound)) or seen["", sound])), 4) for sound in symbols}
        for voice in voices
    }


def mean_predictor(texts: Sequence[TimedText]) -> Callable[[TimedText], list[float]]:
    """The baseline: a phoneme's mean duration in this voice."""
    means = mean_seconds(texts, sorted({text.voice for text in texts}))

    def predict(text: TimedText) -> list[float]:
        return [means[text.voice].get(sound, 0.08) for word in text.words for sound in word]

    return predict
