"""Writes the checkpoint of a finished run, with everything that export needs beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from unimoe.checkpoint import CheckpointParts, save_checkpoint
from unimoe.data.corpus import Corpus, Item
from unimoe.model import UniMoE
from unimoe.training.material import Material
from unimoe_runtime.config import SamplingConfig

_CALIBRATION_TURNS = 2


def write_result(
    out: Path,
    model: UniMoE,
    recipe: Mapping[str, Any],
    material: Material,
    losses: Mapping[str, float],
    provenance: Mapping[str, Any],
) -> None:
    """Write the checkpoint in bfloat16, with codec, front end, sampling, calibration set and provenance."""
    save_checkpoint(
        out,
        model,
        CheckpointParts(
            codec_dir=material.codec_dir,
            frontend_dir=material.frontend_dir,
            calibration=calibration_requests(material.corpus),
        ),
        sampling={task: SamplingConfig(**values) for task, values in recipe["sampling"].items()},
        provenance={
            "recipe": recipe,
            **provenance,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "held_out": {name: round(value, 4) for name, value in losses.items()},
        },
        dtype=torch.bfloat16,
    )


def calibration_requests(corpus: Corpus) -> list[dict[str, str]]:
    """Requests of the training split, which alternate between all voices or instruments and kinds."""
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in corpus.select(split="train"):
        groups.setdefault((item.voice or item.instrument, item.kind), []).append(item)
    chosen = [group[turn] for turn in range(_CALIBRATION_TURNS) for group in groups.values() if turn < len(group)]
    requests = [(item, *item.request()[:2]) for item in chosen]
    return [
        {"task": task, "text": text, **({"voice": item.voice} if item.voice else {})} for item, task, text in requests
    ]
