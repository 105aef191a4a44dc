"""The curriculum: merging keeps the specialists' function, stages run in order, each trains only its own weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from tests.unimoe.training.tiny_training import config, make_examples, training
from unimoe.cli.train import train
from unimoe.config import preset
from unimoe.training.curriculum import STAGES, Curriculum, CurriculumConfig, balanced
from unimoe.training.merging import is_new
from unimoe.training.recipe_check import read_recipe
from unimoe_runtime.errors import CheckpointError, ConfigError


def curriculum_config() -> CurriculumConfig:
    stages = {name: training(num_steps=6, log_every_steps=2) for name in STAGES if name != "merge"}
    stages["warmup"] = replace(stages["warmup"], trained="gate and shared", anneal_aux=False)
    return CurriculumConfig(model=config(), stages=stages)


def test_the_balanced_set_has_as_much_of_every_domain() -> None:
    chosen = balanced(make_examples(40), seed=0)
    domains = [example.domain for example in chosen]
    assert domains.count("speech") == domains.count("music") == 10
    examples = make_examples(40)
    larger = balanced(examples, seed=0, clips={"speech": 25, "music": 15})
    times = [sum(chosen is example for chosen in larger) for example in examples]
    assert sorted(times[::4]) == [1] * 5 + [2] * 5 and sum(times) == 40 and max(times[1::4]) == 1


def test_stages_follow_one_another_and_are_not_run_twice(tmp_path: Path) -> None:
    curriculum = Curriculum(curriculum_config(), tmp_path, make_examples(40), make_examples(8))
    with pytest.raises(CheckpointError, match="run the stage base first"):
        curriculum.run(["specialist-speech"])
    curriculum.run()
    losses = json.loads((tmp_path / "joint" / "held_out.json").read_text())
    assert losses["loss_speech"] > 0 and 0 <= losses["null_share"] <= 1
    before, after = curriculum.weights("merge"), curriculum.weights("warmup")
    for name, value in before.items():
        assert torch.equal(value, after[name]) != is_new(name), name
    assert not torch.equal(curriculum.weights("joint")["codec_head.weight"], after["codec_head.weight"])
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("training.pt")}
    assert len(written) == len(STAGES)
    curriculum.run()
    assert {path: path.stat().st_mtime_ns for path in written} == written
    curriculum.model()


def test_a_stage_that_is_not_finished_is_named(tmp_path: Path) -> None:
    settings = curriculum_config()
    Curriculum(settings, tmp_path, make_examples(40)).run(["base"])
    longer = replace(settings, stages={**settings.stages, "base": replace(settings.stages["base"], num_steps=9)})
    curriculum = Curriculum(longer, tmp_path, make_examples(40))
    with pytest.raises(CheckpointError, match="is at step 6: run the stage base to its end"):
        curriculum.run(["specialist-music"])
    with pytest.raises(CheckpointError, match="was trained with other settings"):
        curriculum.run(["base"])


def test_a_stages_model_is_dense_before_the_merger() -> None:
    found = curriculum_config()
    assert [found.model_of(stage) == found.model for stage in STAGES] == [False] * 3 + [True] * 3
    assert found.model_of("base") == found.model_of("specialist-music") == found.dense


def test_a_recipes_sections_make_the_stages() -> None:
    recipe = {
        "train": {"num_steps": 100, "batch_size": 4, "leave_out": ["organ"], "guide_layers": [1]},
        "specialist": {"learning_rate": 1e-3, "music": {"num_steps": 20}},
        "joint": {"sorted_batches": 1},
    }
    stages = CurriculumConfig.from_recipe(recipe, config()).stages
    assert stages["specialist-music"].num_steps == 20 and stages["specialist-speech"].num_steps == 100
    assert stages["specialist-speech"].learning_rate == stages["specialist-music"].learning_rate == 1e-3
    assert stages["warmup"].trained == "gate and shared" and not stages["warmup"].anneal_aux
    assert stages["joint"].sorted_batches == 1 and stages["base"].guide_layers == (1,)
    with pytest.raises(ConfigError, match="TrainingConfig does not know the field 'steps'"):
        CurriculumConfig.from_recipe({"train": {"steps": 3}}, config())


def test_the_command_takes_a_recipe_or_a_stage(tmp_path: Path) -> None:
    recipe = tmp_path / "some.toml"
    recipe.write_text("[data]\n")
    for arguments in ([str(recipe)], ["merge", str(recipe)], ["specialist", str(recipe), "--domain", "music"]):
        result = CliRunner().invoke(train, arguments)
        assert isinstance(result.exception, ConfigError) and "[codec] is missing" in str(result.exception)
    assert "specialist" in CliRunner().invoke(train, ["--help"]).output


def test_the_recipe_in_the_repository_holds_together() -> None:
    root = Path(__file__).parents[3]
    recipe = read_recipe(root / "recipes" / "curriculum.toml", ["data", "codec", "frontend", "sampling"])
    found = CurriculumConfig.from_recipe(recipe, preset("demo", **recipe["model"]))
    assert found.dense.shared_intermediate_size == 4 * found.model.routed_intermediate_size
    assert found.stages["warmup"].trained == "gate and shared"
    assert (root / recipe["data"]["recipe"]).is_file()
