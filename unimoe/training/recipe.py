"""Runs a recipe with a curriculum: data → codec → front end → five stages → the codec's decoder → checkpoint.

All products lie in one working folder, and finished ones are skipped. Under torchrun the first process makes the
training material while the others wait. Then all processes train the model and its decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unimoe.checkpoint import load_model
from unimoe.training.curriculum import STAGES, Curriculum, CurriculumConfig
from unimoe.training.decoder import DecoderSettings, with_trained_decoder
from unimoe.training.material import Material, Report, prepare
from unimoe.training.package import PackageLimits, PackageParts, write_package
from unimoe.training.recipe_check import check_recipe
from unimoe.training.result import write_result
from unimoe.training.trainer import Trainer, evaluate
from unimoe.world import Engine, open_world
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.files.json import read_json


def train_recipe(
    recipe_path: Path,
    work: Path,
    *,
    stages: Sequence[str] = STAGES,
    out: Path | None = None,
    engine: Engine = "ddp",
    report: Report = print,
) -> None:
    """Run stages of the curriculum in `work`. With `out`, also train the decoder of [decoder], if the recipe has that
    section, and write the checkpoint there.

    Raises ConfigError for an inconsistent recipe, and CheckpointError where a stage's predecessor is not finished.
    """
    recipe = check_recipe(recipe_path, tools=not (work / "corpus" / "index.jsonl").exists())
    with open_world(engine) as world:
        torch.set_num_threads(recipe["train"].get("num_threads", 2))
        if world.is_first:
            prepare(recipe, work, report)
        world.wait()
        material = prepare(recipe, work, report)
        config = curriculum_config(recipe, material)
        held_out = material.examples("valid", config.model)
        curriculum = Curriculum(config, work, material.examples("train", config.model), held_out, world)
        curriculum.run(stages)
        if out is None:
            return
        model = curriculum.model()
        material = with_trained_decoder(material, model, recipe, work, world, report)
        if not world.is_first:
            return
        losses = evaluate(Trainer(config.model, config.stages["joint"], held_out, initial=model.state_dict()), held_out)
        provenance = {
            "training": {name: training.to_dict() for name, training in config.stages.items()},
            "processes": world.size,
        }
        write_result(out, model, recipe, material, losses, provenance)
        report(f"{out}: " + ", ".join(f"{name} {value:.3f}" for name, value in sorted(losses.items())))


def curriculum_config(recipe: Mapping[str, Any], material: Material) -> CurriculumConfig:
    """The recipe's curriculum for the material's codec and front end."""
    seed = recipe["train"].get("seed", 0)
    config = CurriculumConfig.from_recipe(recipe, material.model_config(recipe["model"]), seed)
    if "aux_loss_decay_steps" in recipe["model"]:
        return config
    return replace(config, model=replace(config.model, aux_loss_decay_steps=config.stages["joint"].num_steps))


def pack_recipe(recipe_path: Path, work: Path, out: Path, limits: PackageLimits, report: Report = print) -> int:
    """Write the recipe's training input as the package `out`; `work` gets missing material. Returns its bytes."""
    recipe = check_recipe(recipe_path)
    material = prepare(recipe, work, report)
    config = curriculum_config(recipe, material)
    parts = PackageParts(
        config=config,
        examples={split: material.examples(split, config.model) for split in ("train", "valid")},
        corpus=material.corpus,
        codec_dir=material.codec_dir,
        decoder=DecoderSettings.from_recipe(recipe),
    )
    return write_package(out, parts, limits)


def unpack_result(recipe_path: Path, work: Path, result: Path, out: Path, report: Report = print) -> None:
    """Write the checkpoint `out` from a timed run's `result` folder: its model and codec, the recipe's front end.

    Where the recipe has a [decoder] that the timed run did not train, it is first trained for that model, here.
    """
    recipe = check_recipe(recipe_path)
    material = prepare(recipe, work, report)
    codec_dir = result / "codec" if (result / "codec").is_dir() else material.codec_dir
    model = load_model(result / "model")
    timed_run = read_json(result / "result.json", CheckpointError)
    material = replace(material, codec_dir=codec_dir)
    if "decoder" not in timed_run:
        with open_world() as world:
            material = with_trained_decoder(material, model, recipe, work, world, report)
    write_result(out, model, recipe, material, {}, {"timed_run": timed_run})
