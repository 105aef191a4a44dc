"""The benefit of the three-stage curriculum, measured: the curriculum and its rivals on the same imbalanced data.

    python -m benchmarks.curriculum --material build/train-demo --folder build/curriculum-claim

Nine tenths of the training clips are speech, one tenth is music. All variants see the same clips, train on the same
number of tokens and use the same number of parameters for each token, as far as a Top-P router permits. One more
variant, "balanced", is the control: the same model, trained from random weights on the curriculum's balanced set only.
Each run is a folder with a result.json; finished runs are skipped, and a killed run resumes from its last save. At the
end the script writes all results to results/curriculum.json, the table into docs/explanation/experiments.md and the
plot beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.curriculum_table import write_plot, write_results, write_table
from unimoe.checkpoint import CheckpointParts, save_checkpoint
from unimoe.codec.base import load_codec
from unimoe.config import DOMAINS
from unimoe.data.corpus import Corpus, Item
from unimoe.evaluation.clips import judge
from unimoe.evaluation.routing import routing_of
from unimoe.evaluation.suite import synthesize_with
from unimoe.evaluation.word_scores import GRAMMAR
from unimoe.model import UniMoE
from unimoe.training.curriculum import Curriculum, CurriculumConfig, balanced
from unimoe.training.examples import Example, read_codes
from unimoe.training.material import Material
from unimoe.training.merging import dense_config
from unimoe.training.settings import TrainingConfig
from unimoe.training.trainer import Trainer, evaluate
from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.files.atomic import write_atomically
from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.frontend.timeline import TimelineFrontEnd
from unimoe_runtime.synthesis.synthesizer import Synthesizer

Trained = tuple[dict[str, UniMoE], dict[str, int], dict[str, Any]]
"""Models by domain, steps by stage, and held-out figures by stage."""
Train = Callable[["Setting", str, int, Path], Trained]

VARIANTS = ("specialists", "dense", "moe", "top-k", "no-null", "curriculum", "balanced")
RESULTS = Path(__file__).parent / "results" / "curriculum.json"
VOICES = ("rms", "slt")
LONGEST_S = 3.0
SPEECH_CLIPS, MUSIC_CLIPS = 6300, 700
MODEL = {
    "hidden_size": 96,
    "num_layers": 3,
    "num_heads": 3,
    "num_kv_heads": 3,
    "routed_intermediate_size": 72,
    "shared_intermediate_size": 144,
    "aux_loss_weight": 0.025,
    "min_aux_loss_weight": 0.001,
}
TRAINING = {"batch_size": 6, "sorted_batches": 1, "num_threads": 1, "log_every_steps": 20, "save_every_s": 20.0}
# The stages' shares of the curriculum's tokens, and their differences from the single long run (rate 2e-3, 60 warm-up
# steps).
STAGES: Mapping[str, tuple[float, Mapping[str, Any]]] = {
    "base": (0.25, {"final_share": 0.3}),
    "specialist-speech": (0.2, {"learning_rate": 1.5e-3, "warmup_steps": 20, "final_share": 0.3}),
    "specialist-music": (0.1, {"learning_rate": 1.5e-3, "warmup_steps": 20, "final_share": 0.3}),
    "warmup": (0.05, {"warmup_steps": 10, "final_share": 0.5, "trained": "gate and shared", "anneal_aux": False}),
    "joint": (0.4, {"learning_rate": 1.5e-3, "warmup_steps": 20}),
}
SAMPLING = SamplingConfig(guidance_scale=2.0, temperature=0.5, top_k=20, min_steps=0, max_steps=400)


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """The settings that all runs share. `tokens`: the positions that each run trains on, prompts included.

    `common`: fields of every stage's TrainingConfig.
    """

    folder: Path
    material: Material
    model: ModelConfig
    train: Sequence[Example]
    valid: Sequence[Example]
    tokens: int
    texts: int
    common: Mapping[str, Any] = field(default_factory=lambda: TRAINING)

    def training(self, examples: Sequence[Example], tokens: float, seed: int, **changes: Any) -> TrainingConfig:
        """The configuration of a run over `tokens`, which these clips convert to a number of steps."""
        mean = sum(example.length for example in examples) / len(examples)
        steps = max(1, round(tokens / (mean * self.common["batch_size"])))
        return TrainingConfig(**{**self.common, "num_steps": steps, "seed": seed, **changes})


def short_clips(corpus: Corpus) -> Corpus:
    """Digits and commands of two voices, and melodies, of at most three seconds."""
    longest = LONGEST_S * corpus.sample_rate_hz
    kept = [
        item
        for item in corpus
        if item.length <= longest and (item.domain == "music" or (item.voice in VOICES and item.kind != "phrases"))
    ]
    return replace(corpus, items=tuple(kept))


def open_setting(folder: Path, tokens: int, texts: int) -> Setting:
    """The corpus of `unimoe train demo`, cut to `short_clips`; its training clips are cut to nine tenths of speech."""
    whole = Corpus.open(folder / "corpus")
    codes = dict(zip(map(_place, whole), read_codes(folder / "codes.npz", len(whole)), strict=True))
    items = list(short_clips(whole))
    rng = np.random.default_rng(0)
    for domain, count in (("speech", SPEECH_CLIPS), ("music", MUSIC_CLIPS)):
        places = [at for at, item in enumerate(items) if (item.split, item.domain) == ("train", domain)]
        left_out = set(rng.permutation(places)[count:].tolist())
        items = [item for at, item in enumerate(items) if at not in left_out]
    frontend = open_frontend(folder / "frontend")
    assert isinstance(frontend, TimelineFrontEnd)
    codec_dir = folder / "codec-run" / "codec"
    material = Material(
        corpus=replace(whole, items=tuple(items)),
        codes=[codes[_place(item)] for item in items],
        frontend=frontend,
        codec=load_codec(codec_dir),
        codec_dir=codec_dir,
        frontend_dir=folder / "frontend",
    )
    model = material.model_config(MODEL)
    train, valid = (material.examples(split, model) for split in ("train", "valid"))
    return Setting(folder=folder, material=material, model=model, train=train, valid=valid, tokens=tokens, texts=texts)


def _place(item: Item) -> tuple[str, int]:
    return item.source, item.offset


def run(setting: Setting, variant: str, seed: int, folder: Path) -> None:
    """Train and evaluate one variant with one seed, and write its result.json."""
    trained = _specialists if variant == "specialists" else _curriculum if variant == "curriculum" else _joint
    evaluate_run(setting, variant, seed, folder, trained)


def evaluate_run(setting: Setting, variant: str, seed: int, folder: Path, trained: Train) -> None:
    """Train by `trained`, evaluate its models, and write result.json."""
    started = time.process_time()
    models, steps, stages = trained(setting, variant, seed, folder)
    seconds = time.process_time() - started
    config = models["speech"].config
    losses = {}
    for domain, model in models.items():
        here = [example for example in setting.valid if example.domain == domain]
        trainer = Trainer(config, TrainingConfig(num_threads=1), here, initial=model.state_dict())
        losses[domain] = evaluate(trainer, here)[f"loss_{domain}"]
    result = {
        "variant": variant, "seed": seed, "steps": steps, "tokens": setting.tokens, "cpu_s": round(seconds, 1),
        "loss": losses, "stages": stages, "parameters": sum(p.numel() for p in models["speech"].parameters()),
        "audio": _listen(setting, models, folder),
    }  # fmt: skip
    expert = 3 * config.hidden_size * config.routed_intermediate_size
    active = 3 * config.hidden_size * config.shared_intermediate_size * config.num_shared_experts
    if config.num_router_rows:
        routing = routing_of(models["speech"], setting.valid)
        result["routing"] = routing.summary()
        active += round(expert * routing.summary()["experts_picked"])
    result["active_ffn_parameters_a_layer"] = active
    write_atomically(folder / "result.json", json.dumps(result, indent=1) + "\n")


def _joint(setting: Setting, variant: str, seed: int, folder: Path) -> Trained:
    """One run from random weights: dense, or Mixture of Experts by routing; "balanced" uses the balanced set."""
    examples = balanced(setting.train, seed) if variant == "balanced" else setting.train
    training = setting.training(examples, setting.tokens, seed)
    config = {
        "dense": dense_config(setting.model, len(DOMAINS)),
        "moe": setting.model,
        "balanced": setting.model,
        "top-k": replace(setting.model, selection="top_k", top_k=2, num_null_experts=0),
        "no-null": replace(setting.model, num_null_experts=0),
    }[variant]
    trainer = Trainer(replace(config, aux_loss_decay_steps=training.num_steps), training, examples)
    trainer.run(folder / "joint", title=f"{variant} {seed}")
    return dict.fromkeys(DOMAINS, trainer.model), {"joint": training.num_steps}, {}


def _specialists(setting: Setting, variant: str, seed: int, folder: Path) -> Trained:
    """A dense model for each domain. They share the tokens in the same proportions as the joint run's batches."""
    config = dense_config(setting.model, len(DOMAINS))
    models, steps = {}, {}
    total = sum(example.length for example in setting.train)
    for domain in DOMAINS:
        examples = [example for example in setting.train if example.domain == domain]
        share = sum(example.length for example in examples) / total
        trainer = Trainer(config, setting.training(examples, share * setting.tokens, seed), examples)
        trainer.run(folder / domain, title=f"{domain} {seed}")
        models[domain], steps[domain] = trainer.model, trainer.training.num_steps
    return models, steps, {}


def curriculum_of(setting: Setting, seed: int, folder: Path) -> Curriculum:
    """The curriculum in `folder`, its stages' steps set for the setting's positions."""
    probe = CurriculumConfig(model=setting.model, stages={name: TrainingConfig() for name in STAGES}, seed=seed)
    data = Curriculum(probe, folder, setting.train)
    stages = {
        name: setting.training(data.data(name), share * setting.tokens, seed, **changes)
        for name, (share, changes) in STAGES.items()
    }
    model = replace(setting.model, aux_loss_decay_steps=stages["joint"].num_steps)
    return Curriculum(CurriculumConfig(model=model, stages=stages, seed=seed), folder, setting.train, setting.valid)


def _curriculum(setting: Setting, variant: str, seed: int, folder: Path) -> Trained:
    curriculum = curriculum_of(setting, seed, folder)
    curriculum.run()
    held_out = {name: json.loads((folder / name / "held_out.json").read_text()) for name in STAGES}
    steps = {name: training.num_steps for name, training in curriculum.config.stages.items()}
    return dict.fromkeys(DOMAINS, curriculum.model()), steps, held_out


def _listen(setting: Setting, models: Mapping[str, UniMoE], folder: Path) -> dict[str, Any]:
    """The judge's figures of the exported bundles."""
    from unimoe_export.exporter import export_bundle

    material = setting.material
    bundles: dict[int, Path] = {}
    for model in models.values():
        if id(model) not in bundles:
            place = folder / f"heard-{len(bundles)}"
            parts = CheckpointParts(codec_dir=material.codec_dir, frontend_dir=material.frontend_dir)
            save_checkpoint(place / "checkpoint", model, parts, sampling=dict.fromkeys(DOMAINS, SAMPLING))
            export_bundle(place / "checkpoint", place / "bundle", replace=True)
            bundles[id(model)] = place / "bundle"
    asked = {domain: bundles[id(model)] for domain, model in models.items()}
    # In a separate process: an engine's threads are set once per process, and the export has already set them to all.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        figures: dict[str, Any] = pool.submit(judge_bundles, setting.folder, asked, setting.texts).result()
    return figures


def judge_bundles(material: Path, bundles: Mapping[str, Path], texts: int) -> dict[str, Any]:
    """Figures of `unimoe.evaluation.clips.judge`, each task with its own bundle and one thread."""
    corpus = short_clips(Corpus.open(material / "corpus"))
    opened = {path: Synthesizer.open(path, threads=1) for path in set(bundles.values())}
    speakers = {domain: synthesize_with(opened[path], corpus.sample_rate_hz) for domain, path in bundles.items()}
    figures = judge(lambda task, text, voice, seed: speakers[task](task, text, voice, seed), corpus, num_texts=texts)
    for synthesizer in opened.values():
        synthesizer.close()
    found = figures.to_dict()
    for voice in found["voices"].values():
        voice["words"] = voice["words"][GRAMMAR]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, default=Path("build/train-demo"))
    parser.add_argument("--folder", type=Path, default=Path("build/curriculum-claim"))
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--texts", type=int, default=6, help="of each kind for each voice, and for each instrument")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--table-only", action="store_true", help="make table and plot of the runs that are there")
    parser.add_argument("--fill", action="store_true", help="keep the runs of results/curriculum.json, make the others")
    asked = parser.parse_args()
    found = {}
    if asked.fill:
        kept = json.loads(RESULTS.read_text(encoding="utf-8"))
        found = {_name(result): result for result in kept if result["tokens"] == asked.tokens}
    if not asked.table_only:
        torch.set_num_threads(1)
        setting = open_setting(asked.material, asked.tokens, asked.texts)
        for seed in range(asked.seeds):
            for variant in asked.variants:
                folder = asked.folder / f"{variant}-{seed}"
                if folder.name not in found and not (folder / "result.json").exists():
                    run(setting, variant, seed, folder)
                    print(f"{folder}: done", flush=True)
    made = [json.loads(path.read_text(encoding="utf-8")) for path in asked.folder.glob("*/result.json")]
    found |= {_name(result): result for result in made}
    results = [found[name] for name in sorted(found)]
    write_results(results, RESULTS)
    print(write_table(results, Path("docs/explanation/experiments.md")))
    write_plot(results, Path("docs/explanation/curriculum.svg"))


def _name(result: dict[str, Any]) -> str:
    return f"{result['variant']}-{result['seed']}"


if __name__ == "__main__":
    main()
