"""Letters to phonemes with stress by a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.files.safetensors_writer import write_tensors
from unimoe_runtime.frontend.letter_to_sound import FILE, LETTERS, LetterToSound, LetterToSoundSettings, letter_ids
from unimoe_runtime.frontend.sequence_network import SequenceNetwork, SequenceNetworkConfig

GROUPS = ((), ("k",), ("ae1",), ("ae0",), ("t",))


def reading(word: str, scores: dict[str, list[float]]) -> tuple[str, ...]:
    """The reading of a model whose scores depend only on the letter."""
    config = SequenceNetworkConfig(tables=(27,), channels=27, taps=1, dilations=(1,), outputs=len(GROUPS))
    tensors = {name: np.zeros(shape, np.float32) for name, shape in config.shapes().items()}
    tensors["table.0"] = np.eye(27, dtype=np.float32)
    tensors["norm"] = np.full(27, 27**-0.5, np.float32)
    for letter, values in scores.items():
        tensors["head"][LETTERS.index(letter) + 1] = values
    return LetterToSound(network=SequenceNetwork(config=config, tensors=tensors), groups=GROUPS)(word)


def test_each_letter_gives_its_phonemes_and_one_vowel_the_stress() -> None:
    scores: dict[str, list[float]] = {"c": [0, 9, 0, 0, 0], "a": [0, 0, 5, 6, 0], "t": [0, 0, 0, 0, 9]}
    assert reading("cat", scores) == ("k", "ae1", "t")  # the network alone gives no stress
    assert reading("Ca-at", {**scores, "a": [0, 0, 6, 5, 0]}) == ("k", "ae1", "ae0", "t")
    assert reading("'", scores) == ()


def test_letters_have_numbers() -> None:
    assert letter_ids("Ab'z") == [1, 2, 26]


def test_damage_is_one_line(tmp_path: Path) -> None:
    config = SequenceNetworkConfig(tables=(27,), channels=2, taps=1, dilations=(1,), outputs=2)
    write_tensors(tmp_path / FILE, config.shapes(), lambda name: [np.zeros(config.shapes()[name], np.float32)])
    section = {"network": config.to_dict(), "groups": ["", "k ae1"]}
    assert LetterToSound.read(tmp_path, LetterToSoundSettings.from_dict(section)).settings().to_dict() == section
    for damaged in ({}, {**section, "groups": [""]}, {**section, "groups": ["", "qq"]}, {**section, "network": {}}):
        with pytest.raises(ConfigError, match=r"^[^\n]+$"):
            LetterToSoundSettings.from_dict(damaged)
