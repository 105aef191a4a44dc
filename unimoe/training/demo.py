"""Runs a recipe without stages: corpus, codec, front end, codec tokens, token model, checkpoint.

Each step leaves its result in the working folder. A step whose result exists is skipped, so an interrupted run
resumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from unimoe.checkpoint import CheckpointParts, save_checkpoint
from unimoe.data.corpus import Corpus, Item
from unimoe.model import UniMoE
from unimoe.training.material import Material, Report, prepare
from unimoe.training.recipe_check import check_recipe
from unimoe.training.settings import TrainingConfig
from unimoe.training.trainer import Trainer, evaluate
from unimoe_runtime.config import SamplingConfig

_CALIBRATION_TURNS = 2


def train_demo(recipe_path: Path, work: Path, out: Path, report: Report = print) -> dict[str, float]:
    """Run the recipe in the folder `work` and write the checkpoint `out`. Returns the held-out losses by domain."""
    recipe = check_recipe(recipe_path, tools=not (work / "corpus" / "index.jsonl").exists())
    training = TrainingConfig.from_sections(training_section(recipe))
    torch.set_num_threads(training.num_threads)
    material = prepare(recipe, work, report)
    config = material.model_config(recipe["model"])
    trainer = Trainer(config, training, material.examples("train", config))
    report(f"training the token model: {len(trainer.examples):,} clips, {training.num_steps:,} steps")
    trainer.run(work / "model")
    losses = evaluate(trainer, material.examples("valid", config))
    provenance = {"training": training.to_dict(), "steps": trainer.step}
    write_result(out, trainer.model, recipe, material, losses, provenance)
    report(f"{out}: " + ", ".join(f"{name} {value:.3f}" for name, value in sorted(losses.items())))
    return losses


def training_section(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The section [train] without the fields that concern the material."""
    return {name: value for name, value in recipe["train"].items() if name != "leave_out"}


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
