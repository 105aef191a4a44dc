"""The curriculum against its control at length: the same balanced clips and equally many positions for both.

    python -m benchmarks.curriculum_long --folder build/curriculum-long

The script makes the clips and the tokens of the demo's codec that the folder lacks, then trains and evaluates both
variants as `benchmarks.curriculum` does. Unlike there, every stage of the curriculum has the balanced set only. A
killed run goes on from its last save. With `--variants`, two processes can train side by side once the material is
there (`--variants` without a name makes it). Held-out figures are taken along the way. At the end the script writes
results/curriculum_long.json and the tables of docs/explanation/experiments.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.curriculum import (
    MODEL,
    STAGES,
    TRAINING,
    VOICES,
    Setting,
    Trained,
    curriculum_of,
    evaluate_run,
    short_clips,
)
from benchmarks.curriculum_table import write_long_tables, write_results
from unimoe.codec.base import load_codec
from unimoe.config import DOMAINS
from unimoe.data.corpus import Corpus
from unimoe.data.recipe import CorpusRecipe
from unimoe.data.rendering import render_corpus
from unimoe.training.curriculum import STAGES as ALL_STAGES
from unimoe.training.curriculum import balanced
from unimoe.training.examples import encode_items, read_codes
from unimoe.training.material import Material
from unimoe.training.saves import SAVE
from unimoe.training.trainer import Trainer, evaluate
from unimoe_runtime.files.atomic import write_atomically
from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.frontend.timeline import TimelineFrontEnd

RESULTS = Path(__file__).parent / "results" / "curriculum_long.json"
DEMO = Path("checkpoints/demo")
DATA = CorpusRecipe(
    digit_strings=dict.fromkeys(VOICES, 3000),
    commands_per_voice=500,
    phrases={},
    melodies=dict.fromkeys(("piano", "guitar", "violin", "trumpet", "flute"), 3000),
)
COMMON = {**TRAINING, "batch_size": 16, "sorted_batches": 10, "save_every_s": 120.0}
PARTS = 10  # held-out figures are taken after each


def open_setting(folder: Path, tokens: int, texts: int) -> Setting:
    """Short clips, as many of speech as of music in the training split, with the demo's codec and front end."""
    if not (folder / "corpus" / "index.jsonl").exists():
        render_corpus(folder / "corpus", DATA)
    corpus = short_clips(Corpus.open(folder / "corpus"))
    corpus = replace(corpus, items=tuple(item for item in corpus if item.split != "test"))
    codec, codes = load_codec(DEMO / "codec"), folder / "codes.npz"
    frontend = open_frontend(DEMO / "frontend")
    assert isinstance(frontend, TimelineFrontEnd)
    material = Material(
        corpus=corpus,
        codes=read_codes(codes, len(corpus)) if codes.exists() else encode_items(corpus.items, codec, codes),
        frontend=frontend,
        codec=codec,
        codec_dir=DEMO / "codec",
        frontend_dir=DEMO / "frontend",
    )
    model = material.model_config(MODEL)
    return Setting(
        folder=folder, material=material, model=model, train=balanced(material.examples("train", model), 0),
        valid=material.examples("valid", model), tokens=tokens, texts=texts, common=COMMON,
    )  # fmt: skip


def _control(setting: Setting, variant: str, seed: int, folder: Path) -> Trained:
    """The Mixture of Experts from random weights."""
    training = setting.training(setting.train, setting.tokens, seed)
    model = replace(setting.model, aux_loss_decay_steps=training.num_steps)
    trainer = Trainer(model, training, setting.train)
    found = _train(trainer, setting, folder / "joint", first_part=0)
    return dict.fromkeys(DOMAINS, trainer.model.eval()), {"joint": training.num_steps}, found


def _curriculum(setting: Setting, variant: str, seed: int, folder: Path) -> Trained:
    """All stages; held-out figures by stage, and along the joint stage."""
    curriculum = curriculum_of(setting, seed, folder)
    curriculum.run(ALL_STAGES[:-1])
    found, share = {}, 0.0
    for name in list(STAGES)[:-1]:
        share += STAGES[name][0]
        found[f"{100 * share:.0f}"] = json.loads((folder / name / "held_out.json").read_text(encoding="utf-8"))
    settings = curriculum.config
    initial = curriculum.weights("warmup")
    trainer = Trainer(settings.model, settings.stages["joint"], curriculum.data("joint"), initial=initial)
    found |= _train(trainer, setting, folder / "joint", first_part=round(PARTS * share))
    steps = {name: training.num_steps for name, training in settings.stages.items()}
    return dict.fromkeys(DOMAINS, trainer.model.eval()), steps, found


def _train(trainer: Trainer, setting: Setting, folder: Path, *, first_part: int) -> dict[str, Any]:
    """Train to the end, the run's parts `first_part` … PARTS. Returns held-out figures by percent of the positions.

    The weights after each part are kept beside its figures.
    """
    found = {}
    for part in range(first_part + 1, PARTS + 1):
        path = folder / f"part-{part}.json"
        if not path.exists():
            steps = trainer.training.num_steps * (part - first_part) // (PARTS - first_part)
            trainer.run(folder, stop_after=steps, title=folder.parent.name)
            shutil.copyfile(folder / SAVE, folder / f"part-{part}.pt")
            write_atomically(path, json.dumps(evaluate(trainer, setting.valid), indent=1) + "\n")
        found[f"{100 * part / PARTS:.0f}"] = json.loads(path.read_text(encoding="utf-8"))
    trainer.run(folder)  # loads the save where all parts were there
    return found


VARIANTS: Mapping[str, Any] = {"curriculum": _curriculum, "balanced": _control}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/curriculum-long"))
    parser.add_argument("--tokens", type=int, default=33_000_000)
    parser.add_argument("--texts", type=int, default=24, help="of each kind for each voice, and for each instrument")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    setting = open_setting(asked.folder, asked.tokens, asked.texts)
    print(f"{len(setting.train)} clips, {sum(example.length for example in setting.train)} positions", flush=True)
    for variant in asked.variants:
        folder = asked.folder / f"{variant}-{asked.seed}"
        if not (folder / "result.json").exists():
            evaluate_run(setting, variant, asked.seed, folder, VARIANTS[variant])
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(asked.folder.glob("*/result.json"))]
    write_results(results, RESULTS)
    print(write_long_tables(results, Path("docs/explanation/experiments.md")))


if __name__ == "__main__":
    main()
