"""Pronounces words that the lexicon lacks: a small network gives each letter its phonemes.

letter_to_sound.safetensors   the network (`sequence_network`)
frontend.json                 its section "letter_to_sound": sizes, letters, and the phoneme groups a letter can have
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from unimoe_runtime.errors import BundleError, ConfigError
from unimoe_runtime.frontend.pronunciation import PHONEMES, Phonemes, is_vowel
from unimoe_runtime.frontend.sequence_network import Floats, SequenceNetwork, SequenceNetworkConfig

FILE: Final = "letter_to_sound.safetensors"
LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, kw_only=True, eq=False)
class LetterToSound:
    """The model. `groups`: what a letter can sound like, from no phoneme to a few; one output of the network each."""

    network: SequenceNetwork
    groups: tuple[Phonemes, ...]

    @classmethod
    def read(cls, folder: Path, section: Mapping[str, Any]) -> LetterToSound:
        """Read the model beside frontend.json. Raises BundleError where it is damaged."""
        try:
            groups = tuple(tuple(str(group).split()) for group in section["groups"])
            config = SequenceNetworkConfig.from_dict(section["network"])
        except (KeyError, TypeError, ConfigError) as error:
            raise BundleError(f"{folder}/frontend.json: letter_to_sound is damaged ({error}); export again") from None
        unknown = {sound for group in groups for sound in group} - set(PHONEMES)
        if unknown or config.outputs != len(groups) or config.tables != (len(LETTERS) + 1,):
            raise BundleError(f"{folder}/frontend.json: letter_to_sound does not fit its network; export again")
        return cls(network=SequenceNetwork.read(folder / FILE, config), groups=groups)

    def section(self) -> dict[str, Any]:
        """The section of frontend.json."""
        return {"network": self.network.config.to_dict(), "groups": [" ".join(group) for group in self.groups]}

    def __call__(self, word: str) -> Phonemes:
        """Phonemes of a word; letters other than a to z are passed over. Every reading has one primary stress."""
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
        """Groups of which exactly one has the primary stress, at the least cost in score."""
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
