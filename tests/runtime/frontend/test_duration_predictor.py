"""The network that predicts durations: what it knows of a phoneme, and its range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.files.safetensors_writer import write_tensors
from unimoe_runtime.frontend.duration_predictor import (
    FILE,
    PLACES,
    SYMBOLS,
    DurationPredictor,
    DurationSettings,
    symbol_ids,
    table_sizes,
)
from unimoe_runtime.frontend.sequence_network import SequenceNetworkConfig

WORDS = [("pau",), ("k", "ae1", "t"), ("ah0",), (",",), ("g", "ow1"), ("?",)]


def test_a_phoneme_knows_its_place_and_what_closes_its_phrase() -> None:
    symbols, places, marks = symbol_ids(WORDS)
    assert [SYMBOLS[at] for at in symbols] == ["pau", "k", "ae1", "t", "ah0", ",", "g", "ow1", "?"]
    assert [PLACES[at] for at in places] == "pause first inner last alone pause first last pause".split()
    assert marks == [1] * 6 + [6] * 3


def test_durations_are_seconds_within_reason(tmp_path: Path) -> None:
    config = SequenceNetworkConfig(tables=table_sizes(2), channels=4, taps=3, dilations=(1,), outputs=1)
    zeros = {name: np.zeros(shape, np.float32) for name, shape in config.shapes().items()}
    zeros["bias"][:] = np.log(0.1)
    write_tensors(tmp_path / FILE, config.shapes(), lambda name: [zeros[name]])
    section = {"voices": ["a", "b"], "network": config.to_dict(), "means": {"a": {"k": 0.1}, "b": {}}}
    settings = DurationSettings.from_dict(section)
    predictor = DurationPredictor.read(tmp_path, settings)
    assert predictor.word_durations("b", WORDS) == pytest.approx([0.1] * 9)
    for pace in (0.5, 0.9, 1.0, 2.0):
        paced = DurationPredictor.read(tmp_path, DurationSettings.from_dict({**section, "paces": {"a": pace}}))
        assert paced.word_durations("a", WORDS) == pytest.approx([0.1 / pace] * 9)
        assert paced.typical("a") == pytest.approx({"k": 0.1 / pace})
        assert paced.word_durations("b", WORDS) == pytest.approx([0.1] * 9)
    zeros["bias"][:] = 50
    write_tensors(tmp_path / FILE, config.shapes(), lambda name: [zeros[name]])
    assert set(DurationPredictor.read(tmp_path, settings).word_durations("a", WORDS)) == {2.0}
    paces = ({"c": 1.0}, {"a": 0.0}, {"a": 0.49}, {"a": 2.01}, {"a": float("nan")}, {"a": "slow"}, 0.9)
    for damaged in (
        {**section, "voices": ["a"]},
        {"voices": ["a", "b"]},
        *({**section, "paces": bad} for bad in paces),
    ):
        with pytest.raises(ConfigError, match=r"^[^\n]+$"):
            DurationSettings.from_dict(damaged)
