"""Interrupted, killed and parallel runs end with the weights of one uninterrupted run in one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.command_line import PACKAGE_ROOTS
from tests.unimoe.training import tiny_training
from tests.unimoe.training.tiny_training import config, make_examples, training
from unimoe.training.batches import collate
from unimoe.training.saves import read_save
from unimoe.training.trainer import Trainer

ROOT = Path(__file__).parents[3]


def command(folder: Path, engine: str, stop_after: int, **changes: Any) -> list[str]:
    return [tiny_training.__file__, str(folder), engine, str(stop_after), json.dumps(changes)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": PACKAGE_ROOTS, "OMP_NUM_THREADS": "1"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = read_save(folder / "training.pt")["model"]
    return found


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_parts_of_a_batch_are_its_rows() -> None:
    whole = collate(make_examples(7), config(), token_noise=0.0, text_drop=0.3, rng=np.random.default_rng(0))
    parts = [whole.part(index, 3) for index in range(3)]
    assert [len(part.ids_BT) for part in parts] == [2, 2, 3]
    assert torch.equal(torch.cat([part.labels_MK for part in parts]), whole.labels_MK)
    assert torch.equal(torch.cat([part.is_music_B for part in parts]), whole.is_music_B)
    first = 0
    for part in parts:
        assert bool(part.mask_BT.any(dim=0).all()) and int(part.audio_BT.sum()) == len(part.inputs_MK)
        rows, queries, keys = part.guide
        here = (whole.guide[0] >= first) & (whole.guide[0] < first + len(part.ids_BT))
        assert torch.equal(rows + first, whole.guide[0][here])
        assert torch.equal(part.ids_BT[rows, keys], whole.ids_BT[whole.guide[0][here], whole.guide[2][here]])
        assert bool(part.audio_BT[rows, queries].all())
        first += len(part.ids_BT)


def test_accumulated_gradients_are_those_of_the_whole_batch() -> None:
    """This holds except for the auxiliary loss, which balances each part."""
    without = config(aux_loss_weight=0.0, min_aux_loss_weight=0.0)
    whole = Trainer(without, training(), make_examples(40))
    parted = Trainer(without, training(micro_batches=4), make_examples(40))
    for _ in range(5):
        figures = [trainer.train_step(measure=True) for trainer in (whole, parted)]
        for name in set(figures[0]) - {"aux_loss"}:
            assert figures[1][name] == pytest.approx(figures[0][name], rel=1e-4), name
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(parted.model.state_dict()[name], value, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    settings = {"num_steps": 60, "save_every_s": 0.0, "log_every_steps": 1, "micro_batches": 2}
    Trainer(config(), training(**settings), make_examples(40)).run(tmp_path / "whole")
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, *command(killed, "ddp", 0, **settings)], env=environment())
    step = int(np.random.default_rng().integers(5, 40))
    deadline = time.monotonic() + 60
    metrics = killed / "metrics.jsonl"
    while process.poll() is None and time.monotonic() < deadline:
        if metrics.exists() and metrics.read_text().count("\n") >= step:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < _step(killed) < 60
    subprocess.run([sys.executable, *command(killed, "ddp", 0, **settings)], env=environment(), check=True)
    expected, found = weights(tmp_path / "whole"), weights(killed)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert losses(killed) == losses(tmp_path / "whole")


def _step(folder: Path) -> int:
    return int(read_save(folder / "training.pt")["step"]) if (folder / "training.pt").exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_two_processes_do_what_one_does(tmp_path: Path, engine: str) -> None:
    """Two processes also resume a save of one process, and one process resumes theirs."""
    settings = {"num_steps": 12, "log_every_steps": 1, "micro_batches": 2}
    Trainer(config(), training(**settings), make_examples(40)).run(tmp_path / "one")
    shared = tmp_path / "shared"
    Trainer(config(), training(**settings), make_examples(40)).run(shared, stop_after=4)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    order = [*torchrun, *command(shared, engine, 8, **settings)]
    done = subprocess.run(order, env=environment(), capture_output=True, text=True, check=False)
    if "terminate called without an active exception" in done.stderr:  # torch's own threads, after the last step
        done = subprocess.run(order, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert _step(shared) == 8
    Trainer(config(), training(**settings), make_examples(40)).run(shared)
    assert losses(shared) == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    expected, found = weights(tmp_path / "one"), weights(shared)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_tensorboard_gets_the_figures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    reader = import_module("tensorboard.backend.event_processing.event_accumulator")

    Trainer(config(), training(num_steps=20), make_examples(40)).run(tmp_path)
    events = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss_speech")] == [10, 20]
