"""Pronounces words that the lexicon lacks: a small network gives each letter its phonemes.

letter_to_sound.safetensors   the network (`sequence_network`)
frontend.json                 its section "letter_to_sound": sizes, letters, and the phoneme groups a letter can have
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.frontend.pronunciation import PHONEMES, Phonemes, is_vowel
from unimoe_runtime.frontend.sequence_network import Floats, SequenceNetwork, SequenceNetworkConfig
from unimoe_runtime.records import JsonRecord, Length

FILE: Final = "letter_to_sound.safetensors"
LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, kw_only=True)
class LetterToSoundSettings(JsonRecord):
    """The section of frontend.json. `groups`: phonemes with spaces between them, one group for each output."""

    network: SequenceNetworkConfig
    groups: Annotated[tuple[Annotated[str, Length(0, 64)], ...], Length(1, 1 << 16)]

    def check_together(self) -> None:
        unknown = sorted({sound for group in self.groups for sound in group.split()} - set(PHONEMES))
        if unknown:
            raise ConfigError(f"groups: {unknown[0]!r} is not a phoneme")
        if self.network.outputs != len(self.groups) or self.network.tables != (len(LETTERS) + 1,):
            raise ConfigError("network: its sizes are not those of the letters and groups")


@dataclass(frozen=True, kw_only=True, eq=False)
class LetterToSound:
    """The model. `groups`: a letter's possible sounds, zero to a few phonemes; one output of the network each."""

    network: SequenceNetwork
    groups: tuple[Phonemes, ...]

    @classmethod
    def read(cls, folder: Path, settings: LetterToSoundSettings) -> LetterToSound:
        """Read the model beside frontend.json. Raises BundleError where it is damaged."""
        network = SequenceNetwork.read(folder / FILE, settings.network)
        return cls(network=network, groups=tuple(tuple(group.split()) for group in settings.groups))

    def settings(self) -> LetterToSoundSettings:
        """Its section of frontend.json."""
        groups = tuple(" ".join(group) for group in self.groups)
        return LetterToSoundSettings(network=self.network.config, groups=groups)

    def __call__(self, word: str) -> Phonemes:
        """Phonemes of a word; letters other than a to z are skipped. Every reading has one primary stress."""
        ids = letter_ids(word)
        if not ids:
            return ()
        scores_PO = self.network(ids)
        best_P = scores_PO.argmax(axis=-1)
        best_P = self._with_one_stress(scores_PO, best_P)
        return tuple(sound for group in best_P for sound in self.groups[group])

    @cached_property
    def _has_stress_O(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return np.array([any(is_vowel(sound) and sound[-1] == "1" for sound in group) for group in self.groups])

    def _with_one_stress(
        self, scores_PO: Floats, best_P: np.ndarray[Any, np.dtype[np.intp]]
    ) -> np.ndarray[Any, np.dtype[np.intp]]:
        """The groups of the highest score of which exactly one has the primary stress."""
        stressed_O = self._has_stress_O
        if not stressed_O.any():
            return best_P
        with_PO, without_PO = np.where(stressed_O, scores_PO, -np.inf), np.where(stressed_O, -np.inf, scores_PO)
        gain_P = with_PO.max(axis=-1) - without_PO.max(axis=-1)
        at = int(gain_P.argmax())
        chosen_P: np.ndarray[Any, np.dtype[np.intp]] = without_PO.argmax(axis=-1)
        chosen_P[at] = int(with_PO[at].argmax())
        return chosen_P


def letter_ids(word: str) -> list[int]:
    """Numbers of a word's letters, a as 1; 0 is for padding in training."""
    return [LETTERS.index(letter) + 1 for letter in word.lower() if letter in LETTERS]
