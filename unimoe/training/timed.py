"""Trains a package in a given time on any device: the token model, then the codec's finish, then its decoder where the
recipe has [decoder].

The speed of a step is measured first. Each stage then gets as many steps as its share of the time allows. The result is
small: weights in bfloat16, no optimizer. It runs on any machine, so losing a rented GPU loses only its time.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from unimoe.checkpoint import load_model, save_checkpoint
from unimoe.codec.adversarial import AdversarialTrainer
from unimoe.codec.predicted import PredictedTrainer
from unimoe.codec.settings import AdversarialTraining, CodecTraining
from unimoe.codec.trainer import CodecTrainer
from unimoe.training.curriculum import Curriculum, CurriculumConfig
from unimoe.training.decoder import chosen_clips, predicted_clips
from unimoe.training.examples import Example
from unimoe.training.material import own_codec
from unimoe.training.package import Package
from unimoe.training.predicted_tokens import codes_of
from unimoe.training.trainer import Trainer, evaluate
from unimoe.world import World
from unimoe_runtime.files.atomic import write_atomically

Report = Callable[[str], None]
_MEASURED_SHARE = 0.03  # maximum share of the time for measuring the speed of one kind of step
_PREDICTED_SHARE = 0.3  # of the decoder's time, after which no further clips' tokens are predicted
_PREDICTED_AT_ONCE = 16
_Training = TypeVar("_Training", bound=CodecTraining)


@dataclass(frozen=True, kw_only=True)
class TimeBudget:
    """`minutes` in all. `codec_share` of them finish the codec; half of that share trains its decoder on predicted
    tokens where the recipe has [decoder]. `batch_size`: clips in a step of the token model.

    `codec_batch_size`: segments in a step of the codec. `measured_steps`: steps that measure the speed.
    """

    minutes: float = 9.0
    codec_share: float = 0.4
    batch_size: int = 96
    codec_batch_size: int = 32
    measured_steps: int = 15


def train_in_time(
    package: Package, out: Path, work: Path, budget: TimeBudget, report: Report = print
) -> dict[str, Any]:
    """Train from `package` and write `out`/model, `out`/codec and `out`/result.json; `work` receives the stages."""
    started = time.monotonic()
    device = _device()
    torch.set_float32_matmul_precision("high")
    out.mkdir(parents=True, exist_ok=True)
    seconds = budget.minutes * 60
    result: dict[str, Any] = {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}
    result["model"] = _train_model(package, out, work, (1 - budget.codec_share) * seconds, budget, report)
    _write_result(out, result)
    left_s = seconds - (time.monotonic() - started)
    if budget.codec_share:
        result["codec"] = _finish_codec(package, out, left_s / 2 if package.decoder else left_s, budget, report)
        _write_result(out, result)
        if package.decoder:
            left_s = seconds - (time.monotonic() - started)
            result["decoder"] = _train_decoder(package, out, left_s, budget, report)
    result["seconds"] = round(time.monotonic() - started, 1)
    _write_result(out, result)
    return result


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _train_model(
    package: Package, out: Path, work: Path, seconds: float, budget: TimeBudget, report: Report
) -> dict[str, Any]:
    world = World(device=_device())
    train, valid = package.examples["train"], package.examples.get("valid", [])
    started = time.monotonic()
    config = fit_stages(package.config, train, seconds, budget, world)
    report("steps: " + ", ".join(f"{name} {stage.num_steps:,}" for name, stage in config.stages.items()))
    curriculum = Curriculum(config, work, train, (), world)
    curriculum.run()
    model = curriculum.model()
    save_checkpoint(out / "model", model, dtype=torch.bfloat16)
    found: dict[str, Any] = {"steps": {name: stage.num_steps for name, stage in config.stages.items()}}
    if valid:
        judge = Trainer(config.model, config.stages["joint"], valid, initial=model.state_dict(), world=world)
        found["held_out"] = {name: round(value, 4) for name, value in evaluate(judge, valid).items()}
    found["seconds"] = round(time.monotonic() - started, 1)
    report(f"token model: {found}")
    return found


def fit_stages(
    config: CurriculumConfig, examples: Sequence[Example], seconds: float, budget: TimeBudget, world: World
) -> CurriculumConfig:
    """The curriculum with as many steps in each stage as fit into `seconds`, in their given proportions."""
    stages = {name: replace(stage, batch_size=budget.batch_size) for name, stage in config.stages.items()}
    started = time.monotonic()
    speeds = {
        shape: _seconds_a_step(
            Trainer(shape, stages["joint"], examples, world=world), budget.measured_steps, _MEASURED_SHARE * seconds
        )
        for shape in {config.dense, config.model}
    }
    left_s = max(1.0, 0.93 * (seconds - (time.monotonic() - started)))
    cost_s = sum(stage.num_steps * speeds[config.model_of(name)] for name, stage in stages.items())
    scale = left_s / cost_s
    fitted = {}
    for name, stage in stages.items():
        steps = max(1, round(stage.num_steps * scale))
        fitted[name] = replace(stage, num_steps=steps, warmup_steps=min(stage.warmup_steps, max(1, steps // 10)))
    model = replace(config.model, aux_loss_decay_steps=fitted["joint"].num_steps)
    return replace(config, stages=fitted, model=model)


def _seconds_a_step(trainer: Trainer | CodecTrainer, count: int, limit_s: float) -> float:
    """Mean wall time of `count` steps after a warm-up; of fewer steps where they take more than `limit_s`."""
    for _ in range(max(1, count // 3)):
        trainer.train_step()
    started, done = time.monotonic(), 0
    while done < count and (not done or time.monotonic() - started < limit_s):
        trainer.train_step()
        done += 1
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.monotonic() - started) / done


def _finish_codec(package: Package, out: Path, seconds: float, budget: TimeBudget, report: Report) -> dict[str, Any]:
    """Finish the codec adversarially, with wide discriminators on a GPU. The tokens do not change."""
    device, codec, corpus = _device(), own_codec(package.codec_dir), package.corpus()
    training = AdversarialTraining(batch_size=budget.codec_batch_size)
    if device.type == "cuda":
        training = replace(training, period_channels=(32, 64, 128, 256, 256), spectral_channels=32)
    return _train_codec(
        lambda settings: AdversarialTrainer(codec, settings, corpus, device), training, out, seconds, budget, report
    )


def _train_decoder(package: Package, out: Path, seconds: float, budget: TimeBudget, report: Report) -> dict[str, Any]:
    """The stage [decoder] on the excerpt's clips, or as many of them as are predicted in their share of the time."""
    settings = package.decoder
    assert settings is not None
    started, device, codec, corpus = time.monotonic(), _device(), own_codec(out / "codec"), package.corpus()
    chosen = chosen_clips(corpus, settings.training)
    random.Random(0).shuffle(chosen)  # so that the first ones are of every kind
    predictor = settings.predictor(load_model(out / "model"), device)
    of_corpus, predicted = package.examples_of_corpus(), list[np.ndarray]()
    while len(predicted) < len(chosen) and (not predicted or time.monotonic() - started < _PREDICTED_SHARE * seconds):
        several = chosen[len(predicted) : len(predicted) + _PREDICTED_AT_ONCE]
        predicted += predictor.predict([of_corpus[at] for at in several], len(predicted))
    chosen = chosen[: len(predicted)]
    true = [codes_of(of_corpus[at], package.config.model) for at in chosen]
    clips = predicted_clips([corpus[at] for at in chosen], true, predicted)
    report(f"predicted the tokens of {len(clips):,} clips")
    training = replace(settings.training, batch_size=budget.codec_batch_size)
    left_s = seconds - (time.monotonic() - started)
    found = _train_codec(
        lambda settings: PredictedTrainer(codec, settings, corpus, clips, World(device=device)),
        training, out, left_s, budget, report,
    )  # fmt: skip
    return {"clips": len(clips), **found, "seconds": round(time.monotonic() - started, 1)}


def _train_codec(
    new_trainer: Callable[[_Training], CodecTrainer],
    training: _Training,
    out: Path,
    seconds: float,
    budget: TimeBudget,
    report: Report,
) -> dict[str, Any]:
    """Train with as many steps as `seconds` allow, and write the codec."""
    started = time.monotonic()
    step_s = _seconds_a_step(new_trainer(training), budget.measured_steps, _MEASURED_SHARE * seconds)
    left_s = 0.9 * (seconds - (time.monotonic() - started))
    steps = max(1, int(left_s / step_s))
    training = replace(training, num_steps=steps, warmup_steps=min(training.warmup_steps, max(1, steps // 10)))
    trainer = new_trainer(training)
    report(f"training the {trainer.title}: {steps:,} steps")
    losses: dict[str, float] = {}
    while trainer.step < steps and (not losses or time.monotonic() - started < seconds):
        losses = trainer.train_step()
    trainer.codec.save(out / "codec")
    return {"steps": trainer.step, "losses": losses, "seconds": round(time.monotonic() - started, 1)}


def _write_result(out: Path, result: dict[str, Any]) -> None:
    write_atomically(out / "result.json", json.dumps(result, indent=1) + "\n")
