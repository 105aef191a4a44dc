"""Runs a recipe without stages: corpus, codec, front end, codec tokens, token model, checkpoint.

Each step leaves its result in the working folder. A step whose result exists is skipped, so an interrupted run
resumes.
"""

from __future__ import annotations

from pathlib import Path

import torch

from unimoe.training.decoder import with_trained_decoder
from unimoe.training.material import Report, prepare
from unimoe.training.recipe_check import check_recipe
from unimoe.training.result import write_result
from unimoe.training.settings import TrainingConfig, training_section
from unimoe.training.trainer import Trainer, evaluate


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
    material = with_trained_decoder(material, trainer.model, recipe, work, trainer.world, report)
    provenance = {"training": training.to_dict(), "steps": trainer.step}
    write_result(out, trainer.model, recipe, material, losses, provenance)
    report(f"{out}: " + ", ".join(f"{name} {value:.3f}" for name, value in sorted(losses.items())))
    return losses
