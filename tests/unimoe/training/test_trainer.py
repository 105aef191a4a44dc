"""Training of the token model: a tiny run that learns, and a run that resumes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.unimoe.training.tiny_training import config, make_examples, training
from unimoe.config import preset
from unimoe.training.trainer import Trainer, evaluate
from unimoe_runtime.errors import CheckpointError


def test_a_tiny_run_learns_and_logs(tmp_path: Path) -> None:
    trainer = Trainer(config(), training(), make_examples(64))
    before = evaluate(trainer, make_examples(16))
    trainer.run(tmp_path)
    after = evaluate(trainer, make_examples(16))
    assert after["loss_speech"] < 0.6 * before["loss_speech"]
    assert after["loss_music"] < 0.6 * before["loss_music"]
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [10, 20, 30, 40, 50, 60]
    assert records[-1]["guide"] < records[0]["guide"]
    assert 0 <= records[-1]["null_share"] <= 1 and records[-1]["tokens_per_s"] > 0


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = Trainer(config(), training(num_steps=12), make_examples(40))
    whole.run(tmp_path / "whole")
    stopped = Trainer(config(), training(num_steps=12), make_examples(40))
    stopped.run(tmp_path / "stopped", stop_after=5)
    assert stopped.step == 5
    resumed = Trainer(config(), training(num_steps=12, seed=0), make_examples(40))
    resumed.run(tmp_path / "stopped")
    assert resumed.step == 12
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, msg=name)


def test_a_save_of_another_model_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    trainer = Trainer(config(), training(), make_examples(8))
    trainer.save(tmp_path / "training.pt")
    other = Trainer(preset("tiny", text_vocab_size=13), training(), make_examples(8))
    with pytest.raises(CheckpointError, match="another model configuration"):
        other.resume(tmp_path / "training.pt")
    (tmp_path / "training.pt").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="remove it and start again"):
        trainer.resume(tmp_path / "training.pt")
