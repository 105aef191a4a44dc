"""Predicts the duration of each phoneme and pause from its neighbours, its place in word and phrase, and the voice.

    durations.safetensors   the network (`sequence_network`)
    frontend.json           its section "durations": sizes, and the voices in order

Shapes: P phonemes, pauses included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import numpy as np

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.frontend.pronunciation import MARKS, PAUSE, PHONEMES, Phonemes
from unimoe_runtime.frontend.sequence_network import SequenceNetwork, SequenceNetworkConfig
from unimoe_runtime.records import Between, JsonRecord, Length

FILE: Final = "durations.safetensors"
SYMBOLS: Final = ("", PAUSE, *MARKS, *PHONEMES)
"""The symbols of a sequence; the first is padding in training."""
PLACES: Final = ("pause", "alone", "first", "inner", "last")
"""Places of a phoneme in its word."""
Pace = Annotated[float, Between(0.5, 2)]
_SHORTEST_S: Final = 0.01
_LONGEST_S: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class DurationSettings(JsonRecord):
    """The section of frontend.json. `means`: for each voice the mean seconds of each symbol.

    `paces`: how fast a voice speaks, as a multiple of the recordings' pace; 1 for a voice that is not named.
    """

    voices: Annotated[tuple[Annotated[str, Length(1, 256)], ...], Length(1, 1 << 12)]
    network: SequenceNetworkConfig
    means: Annotated[Mapping[str, Mapping[str, Annotated[float, Between(0, 10)]]], Length(1, 1 << 12)]
    paces: Annotated[Mapping[str, Pace], Length(0, 1 << 12)] = field(default_factory=dict)

    def check_together(self) -> None:
        if self.network.tables != table_sizes(len(self.voices)) or self.network.outputs != 1:
            raise ConfigError("network: its sizes are not those of the voices and symbols")
        missing = [voice for voice in self.voices if voice not in self.means]
        if missing:
            raise ConfigError(f"means: {missing[0]!r} is missing")
        if unknown := [voice for voice in self.paces if voice not in self.voices]:
            raise ConfigError(f"paces: {unknown[0]!r} is none of the voices {', '.join(self.voices)}")


@dataclass(frozen=True, kw_only=True, eq=False)
class DurationPredictor:
    """The network runs in numpy, so that a text has the same durations on every backend.

    `network`: ids [P] of symbols, voices, places and closing marks to log seconds [P, 1]. `means`: for each voice the
    mean seconds of each symbol, for a first estimate. `paces`: as in DurationSettings.
    """

    network: SequenceNetwork
    voices: tuple[str, ...]
    means: Mapping[str, Mapping[str, float]]
    paces: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, settings: DurationSettings) -> DurationPredictor:
        """Read the predictor beside frontend.json. Raises BundleError where it is damaged."""
        network = SequenceNetwork.read(folder / FILE, settings.network)
        return cls(network=network, voices=settings.voices, means=settings.means, paces=settings.paces)

    def word_durations(self, voice: str, words: Sequence[Phonemes]) -> list[float]:
        """Seconds of each phoneme of an utterance.

        `words`: the phonemes of each word; a pause is a separate word, PAUSE or one of MARKS. The last mark before
        the end closes the last phrase.
        """
        ids = symbol_ids(words)
        voices = [self.voices.index(voice)] * len(ids[0])
        log_s_P1 = self.network(ids[0], voices, ids[1], ids[2])
        seconds_P = np.exp(log_s_P1[:, 0].astype(np.float64)) / self.paces.get(voice, 1.0)
        seconds: list[float] = np.clip(seconds_P, _SHORTEST_S, _LONGEST_S).tolist()
        return seconds

    def typical(self, voice: str) -> Mapping[str, float]:
        """Mean seconds of each symbol."""
        pace = self.paces.get(voice, 1.0)
        return {symbol: seconds / pace for symbol, seconds in self.means[voice].items()}


def table_sizes(num_voices: int) -> tuple[int, ...]:
    """Rows of the network's tables: symbols, voices, places, closing marks."""
    return len(SYMBOLS), num_voices, len(PLACES), len(MARKS) + 1


def symbol_ids(words: Sequence[Phonemes]) -> tuple[list[int], list[int], list[int]]:
    """Ids of symbols, of places in the word, and of the mark that closes the phrase (0 without such a mark)."""
    symbols: list[int] = []
    places: list[int] = []
    for sounds in words:
        symbols += [SYMBOLS.index(sound) for sound in sounds]
        if sounds[0] in MARKS or sounds[0] == PAUSE:
            places += [0] * len(sounds)
        elif len(sounds) == 1:
            places.append(1)
        else:
            places += [2, *[3] * (len(sounds) - 2), 4]
    marks = [0] * len(symbols)
    closing = 0
    for at in reversed(range(len(symbols))):
        if SYMBOLS[symbols[at]] in MARKS:
            closing = MARKS.index(SYMBOLS[symbols[at]]) + 1
        marks[at] = closing
    return symbols, places, marks
