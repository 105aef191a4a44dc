"""Saves of training: `training.pt` in a stage's folder, with which a run resumes and from which the next stage starts.

model       weights by the model's names
optimizer   the optimizer's state; empty for a stage without training
step        the number of steps done
config      the model's configuration, JSON
training    the settings that affect the result, JSON
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError  # torch.load raises it, even with weights_only, for a file that is no save
from typing import Any

import torch

from unimoe.training.settings import TrainingConfig
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.files.atomic import atomic_file

SAVE = "training.pt"
_FIELDS = {"model", "optimizer", "step", "config", "training"}


def write_save(
    path: Path,
    config: ModelConfig,
    state: Mapping[str, Any],
    *,
    training: TrainingConfig | None = None,
    step: int = 0,
) -> None:
    """Write a save. `state`: the model's weights, "model", and where there is one the state of its "optimizer".

    A killed write leaves an older save whole.
    """
    content = {
        "optimizer": {},
        **state,
        "step": step,
        "config": json.dumps(config.to_dict()),
        "training": json.dumps({} if training is None else training.of_the_result()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        torch.save(content, partial)


def read_save(path: Path) -> dict[str, Any]:
    """A save's content. Raises CheckpointError where it is damaged."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if _FIELDS - set(state):
            raise KeyError
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, UnpicklingError):
        raise CheckpointError(f"{path} is damaged and cannot be read: remove it and start again") from None
    return state


def was_trained_with(state: Mapping[str, Any], training: TrainingConfig) -> bool:
    """Whether a save's settings are these, apart from those that do not affect the result."""
    return bool(json.loads(state["training"]) == json.loads(json.dumps(training.of_the_result())))
