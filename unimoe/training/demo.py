"""The demo's recipe, start to finish: corpus, codec, front end, codec tokens, token model, checkpoint.

Each step leaves its result in the working folder and is skipped when that is there, so a run that was stopped goes
on where it was.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unimoe.checkpoint import save_checkpoint
from unimoe.codec.base import load_codec
from unimoe.codec.config import ConvNeXtCodecConfig
from unimoe.codec.training import CodecTraining, train_codec
from unimoe.config import preset
from unimoe.data.corpus import Corpus
from unimoe.data.rendering import CorpusRecipe, render_corpus
from unimoe.training.examples import Example, encode_corpus, make_examples, read_codes
from unimoe.training.frontend import FrontEndRecipe, write_frontend
from unimoe.training.trainer import Trainer, TrainingConfig, describe, evaluate
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import ConfigError
from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.frontend.timeline import TimelineFrontEnd

Report = Callable[[str], None]


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe's sections. Raises ConfigError where the file is missing or no TOML."""
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as problem:
        raise ConfigError(f"{path}: cannot be read as a recipe ({problem})") from None
    missing = [name for name in ("data", "codec", "frontend", "model", "train", "sampling") if name not in recipe]
    if missing:
        raise ConfigError(f"{path}: the section [{missing[0]}] is missing")
    return recipe


def train_demo(recipe_path: Path, work: Path, out: Path, report: Report = print) -> dict[str, float]:
    """Run the recipe in the folder `work` and write the checkpoint `out`. Returns the held-out losses by domain."""
    recipe = read_recipe(recipe_path)
    settings = dict(recipe["train"])
    left_out = set(settings.pop("leave_out", ()))
    training = TrainingConfig(**{name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()})
    torch.set_num_threads(training.num_threads)

    if not (work / "corpus" / "index.jsonl").exists():
        report("rendering the corpus")
        render_corpus(work / "corpus", CorpusRecipe(**recipe["data"]))
    corpus = Corpus.open(work / "corpus")
    codec_dir = work / "codec-run" / "codec"
    if not (codec_dir / "config.json").exists():
        report("training the codec")
        train_codec(corpus, work / "codec-run", ConvNeXtCodecConfig(), CodecTraining(**recipe["codec"]))
    codec = load_codec(codec_dir)

    heard = replace(corpus, items=tuple(item for item in corpus if item.source not in left_out))
    frontend = _frontend(work / "frontend", heard, FrontEndRecipe(**recipe["frontend"]), codec, report)
    codes_path = work / "codes.npz"
    codes = read_codes(codes_path, heard) if codes_path.exists() else encode_corpus(heard, codec, codes_path)
    config = preset(
        "demo",
        text_vocab_size=len(frontend.tokens),
        num_codebooks=codec.num_codebooks,
        codebook_size=codec.codebook_size,
        delay_pattern=list(range(codec.num_codebooks)),
        **recipe["model"],
    )

    def examples(split: str) -> list[Example]:
        chosen = [index for index, item in enumerate(heard) if item.split == split]
        return make_examples([heard[i] for i in chosen], [codes[i] for i in chosen], frontend, config)

    trainer = Trainer(config, training, examples("train"))
    report(f"training the token model: {len(trainer.examples):,} clips, {training.num_steps:,} steps")
    trainer.run(work / "model")
    losses = evaluate(trainer, examples("valid"))
    _save(out, trainer, recipe, losses, codec_dir, work / "frontend")
    report(f"{out}: " + ", ".join(f"{name} {value:.3f}" for name, value in sorted(losses.items())))
    return losses


def _frontend(folder: Path, corpus: Corpus, recipe: FrontEndRecipe, codec: Any, report: Report) -> TimelineFrontEnd:
    if not (folder / "frontend.json").exists():
        report("asking flite for a lexicon")
        write_frontend(folder, corpus, recipe, frame_rate_hz=codec.sample_rate_hz / codec.hop_samples)
    frontend = open_frontend(folder)
    assert isinstance(frontend, TimelineFrontEnd)
    return frontend


def _save(
    out: Path, trainer: Trainer, recipe: dict[str, Any], losses: dict[str, float], codec_dir: Path, frontend_dir: Path
) -> None:
    save_checkpoint(
        out,
        trainer.model,
        sampling={task: SamplingConfig(**values) for task, values in recipe["sampling"].items()},
        provenance={
            "recipe": recipe,
            "training": describe(trainer.training),
            "steps": trainer.step,
            "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
            "held_out": {name: round(value, 4) for name, value in losses.items()},
        },
        dtype=torch.bfloat16,
        codec_dir=codec_dir,
        frontend_dir=frontend_dir,
    )
