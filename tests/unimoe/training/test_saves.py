"""Saves of training: complete or absent, one format for trained and merged weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.interruptions import interrupted_everywhere
from tests.unimoe.training.tiny_training import config, make_examples, training
from unimoe.model import UniMoE
from unimoe.training import saves
from unimoe.training.saves import SAVE, read_save, was_trained_with, write_save
from unimoe.training.trainer import Trainer
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.files import atomic, locked_path


def test_weights_without_training_are_a_save_at_step_zero(tmp_path: Path) -> None:
    weights = UniMoE(config()).state_dict()
    write_save(tmp_path / "merge" / SAVE, config(), {"model": weights})
    found = read_save(tmp_path / "merge" / SAVE)
    assert found["step"] == 0 and found["optimizer"] == {} and not was_trained_with(found, training())
    assert all(torch.equal(value, found["model"][name]) for name, value in weights.items())


def test_settings_count_where_they_affect_the_result(tmp_path: Path) -> None:
    trainer = Trainer(config(), training(), make_examples(8))
    trainer.save(tmp_path / SAVE)
    found = read_save(tmp_path / SAVE)
    assert was_trained_with(found, replace(training(), log_every_steps=3, num_threads=2))
    assert not was_trained_with(found, replace(training(), learning_rate=1e-4))


def test_what_is_no_save_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / SAVE)
    with pytest.raises(CheckpointError, match="is damaged and cannot be read"):
        read_save(tmp_path / SAVE)


def test_a_signal_at_any_moment_leaves_the_save_or_nothing(tmp_path: Path) -> None:
    weights = {"model": {"a": torch.ones(3)}}

    def save(folder: Path) -> None:
        write_save(folder / "stage" / SAVE, config(), weights, training=training())

    for place in interrupted_everywhere(save, tmp_path, (atomic, locked_path, saves), stride=1):
        left = [path.name for path in place.rglob("*") if path.is_file()]
        assert left in ([], [SAVE]), f"interrupted before bytecode {place.name}: {left} stays"
        if left:
            assert read_save(place / "stage" / SAVE)["step"] == 0
