"""Training runs of the project's codecs on a corpus: minutes to hours on a CPU or one GPU, resumable.

The working folder holds `training.pt` (the state of the run), `log.jsonl` and the finished codec.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress, TextColumn

from unimoe.bars import progress_bars
from unimoe.codec.common import TrainedCodec
from unimoe.codec.trainer import CodecTrainer
from unimoe.stopping import Stopped, StopRequest, stop_between_steps
from unimoe_runtime.files.atomic import atomic_file

_LOG_EVERY = 50
SAVE = "training.pt"


def train_codec(
    trainer: CodecTrainer, folder: str | Path, report: Callable[[str], None] = lambda line: None
) -> TrainedCodec[Any]:
    """Train to the last step, resuming from a save in `folder` where there is one. Writes `folder`/codec.

    Every process of the trainer's world must call it. The first one writes and reports. A signal to any of them stops
    all after the same step.
    """
    folder, world, training = Path(folder), trainer.world, trainer.training
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / SAVE).exists():
        trainer.load_state_dict(torch.load(folder / SAVE, map_location="cpu", weights_only=True))
        if trainer.step >= training.num_steps:
            return trainer.codec
    with stop_between_steps() as stop:
        if world.is_first:
            report(f"training the {trainer.title}: steps {trainer.step:,} to {training.num_steps:,}")
            _train_and_write(trainer, folder, stop)
        else:
            for _ in _steps(trainer, stop):
                pass
    world.wait()  # for the last save
    if trainer.step < training.num_steps:
        where = f"{trainer.title}: stopped and saved at step {trainer.step:,} of {training.num_steps:,}, in {folder}"
        stop.end(where)
        raise Stopped(signal.SIGTERM, where)  # another process received the signal
    return trainer.codec


def _train_and_write(trainer: CodecTrainer, folder: Path, stop: StopRequest) -> None:
    """Train with a progress bar, a log and regular saves, and save at the end."""
    training = trainer.training
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[distance]:.3f}"))
    with progress_bars(*columns) as progress, (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        task = progress.add_task("codec", total=training.num_steps, completed=trainer.step, distance=math.nan)
        sums: dict[str, float] = {}
        started, saved = time.process_time(), time.monotonic()
        for losses in _steps(trainer, stop):
            sums = {name: sums.get(name, 0.0) + value for name, value in losses.items()}
            progress.update(task, completed=trainer.step, distance=losses["distance"])
            if trainer.step % _LOG_EVERY == 0:
                means = {name: round(value / _LOG_EVERY, 4) for name, value in sums.items()}
                line = {"step": trainer.step, **means, "cpu_s": round(time.process_time() - started, 1)}
                log.write(json.dumps(line) + "\n")
                log.flush()
                sums.clear()
            if time.monotonic() - saved > training.save_every_s:
                save_training(trainer, folder)
                saved = time.monotonic()
    save_training(trainer, folder)


def _steps(trainer: CodecTrainer, stop: StopRequest) -> Iterator[dict[str, float]]:
    """Train to the last step, or to the step in which a signal arrived at any process. Yields each step's losses."""
    for losses in trainer.steps():
        yield losses
        if trainer.world.any(bool(stop)):
            return


def save_training(trainer: CodecTrainer, folder: Path) -> None:
    """Write `training.pt` and the current codec. An interrupted write keeps the earlier state."""
    with atomic_file(folder / SAVE) as partial:
        torch.save(trainer.state_dict(), partial)
    trainer.codec.save(folder / "codec")
