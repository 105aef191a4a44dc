"""Clips that a tiny model learns in seconds, and settings of a short run.

Tests that kill a run or start two run this file as a process: `python tiny_training.py FOLDER ENGINE STEPS JSON`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unimoe.config import preset
from unimoe.training.examples import Example
from unimoe.training.settings import TrainingConfig
from unimoe.training.trainer import Trainer
from unimoe.world import open_world
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.model.delay_pattern import delay_codes


def config(**changes: Any) -> ModelConfig:
    return preset("tiny", text_vocab_size=12, **changes)


def make_examples(count: int) -> list[Example]:
    """Clips whose codes repeat what the text says: three tokens, each sounding for four frames."""
    rng = np.random.default_rng(0)
    examples = []
    for index in range(count):
        text = rng.integers(4, 12, size=3)
        codes_TK = np.repeat(text, 4)[:, None] + np.array([0, 2])
        examples.append(
            Example(
                ids_P=np.array([2, *text, 1]),
                positions_P=np.array([0, 3.5, 7.5, 11.5, 1], dtype=np.float32),
                rows_RK=delay_codes(codes_TK % 16, config()),
                spoken_T=np.repeat([1, 2, 3], 4),
                domain="music" if index % 4 == 0 else "speech",
            )
        )
    return examples


def training(**changes: Any) -> TrainingConfig:
    values: dict[str, Any] = {
        "num_steps": 60, "warmup_steps": 5, "batch_size": 8, "learning_rate": 5e-3, "guide_layers": (1,),
        "num_threads": 1, "log_every_steps": 10,
    }  # fmt: skip
    return TrainingConfig(**(values | changes))


def main(folder: str, engine: Any, stop_after: str, changes: str) -> None:
    torch.set_num_threads(1)
    with open_world(engine) as world:
        trainer = Trainer(config(), training(**json.loads(changes)), make_examples(40), world=world)
        trainer.run(Path(folder), stop_after=int(stop_after) or None)


if __name__ == "__main__":
    main(*sys.argv[1:])
