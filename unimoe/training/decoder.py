"""The stage after the joint one: trains the codec's decoder on tokens that the trained model predicts.

    predicted/       the predicted tokens of training clips
    predicted-run/   the decoder's run; its codec/ is the checkpoint's

Tokens, encoder and codebooks stay, so the model stays valid. The processes share the prediction and each step's batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from unimoe.codec.predicted import PredictedClip, PredictedTrainer
from unimoe.codec.settings import PredictedTraining
from unimoe.codec.training import train_codec
from unimoe.config import DOMAINS
from unimoe.data.codes import hash_codec
from unimoe.data.corpus import Corpus, Item
from unimoe.model import UniMoE
from unimoe.training.examples import Example, make_example
from unimoe.training.material import Material, Report, own_codec
from unimoe.training.predicted_tokens import Predictor, predict_once
from unimoe.training.products import Products
from unimoe.training.settings import TrainingConfig, training_section
from unimoe.world import World
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.records import Between, JsonRecord

_TOKENS, _RUN = "predicted", "predicted-run"


def with_trained_decoder(
    material: Material, model: UniMoE, recipe: Mapping[str, Any], work: Path, world: World, report: Report = print
) -> Material:
    """The material with a decoder that is trained for `model`, or unchanged where the recipe has no [decoder].

    Every process must call it. Raises ConfigError where `work` holds predictions or a run of other settings.
    """
    settings = DecoderSettings.from_recipe(recipe)
    return material if settings is None else DecoderStage(settings, work, world, report).run(model, material)


@dataclass(frozen=True, kw_only=True)
class DecoderSettings(JsonRecord):
    """The training of the section [decoder], and how tokens are predicted for it (`predicted_tokens.Predictor`)."""

    training: PredictedTraining
    temperatures: Mapping[str, Annotated[float, Between(0, 1e6)]]
    bfloat16: bool = False

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> DecoderSettings | None:
        """None for a recipe without that section."""
        if "decoder" not in recipe:
            return None
        sampling = {domain: SamplingConfig.from_dict(recipe["sampling"].get(domain, {})) for domain in DOMAINS}
        return cls(
            training=PredictedTraining.from_dict(recipe["decoder"]),
            temperatures={domain: settings.temperature for domain, settings in sampling.items()},
            bfloat16=TrainingConfig.from_sections(training_section(recipe), recipe.get("joint", {})).bfloat16,
        )

    def predictor(self, model: UniMoE, device: torch.device) -> Predictor:
        """A predictor with the model on a device."""
        return Predictor(
            model=model.to(device).eval(), temperatures=self.temperatures, bfloat16=self.bfloat16,
            seed=self.training.seed,
        )  # fmt: skip


class DecoderStage:
    """The stage of `settings`, run in the folder `work` on the world's device."""

    def __init__(self, settings: DecoderSettings, work: Path, world: World, report: Report = print) -> None:
        self.settings, self.training = settings, settings.training
        self.work, self.world, self.report = work, world, report

    def run(self, model: UniMoE, material: Material) -> Material:
        """The material with the trained decoder's codec. Resumes after an interruption."""
        chosen = chosen_clips(material.corpus, self.training)
        items = [material.corpus[at] for at in chosen]
        true = [material.codes[at] for at in chosen]
        examples = [
            make_example(item, codes_TK, material.frontend, model.config)
            for item, codes_TK in zip(items, true, strict=True)
        ]
        if self.world.is_first:
            self._require(model, examples, material.codec_dir)
            self.report(f"predicting the tokens of {len(examples):,} clips")
        self.world.wait()
        predictor = self.settings.predictor(model, self.world.device)
        predicted = predict_once(predictor, examples, self.work / _TOKENS, self.world)
        clips = predicted_clips(items, true, predicted)
        trainer = PredictedTrainer(own_codec(material.codec_dir), self.training, material.corpus, clips, self.world)
        train_codec(trainer, self.work / _RUN, self.report)
        return replace(material, codec_dir=self.work / _RUN / "codec")

    def _require(self, model: UniMoE, examples: Sequence[Example], codec_dir: Path) -> None:
        settings = {name: value for name, value in self.training.to_dict().items() if name != "save_every_s"}
        tokens = {
            "data": _hash(getattr(example, field.name) for example in examples for field in fields(Example)),
            "joint": _hash(value.cpu().numpy() for value in model.state_dict().values()),
            "sampling": self.settings.temperatures,
        }
        products = Products(self.work)
        products.require(self.work / _TOKENS, {**tokens, "decoder": self.training.seed})
        products.require(self.work / _RUN, {**tokens, "codec": hash_codec(codec_dir), "decoder": settings})


def predicted_clips(
    items: Sequence[Item], true: Sequence[np.ndarray], predicted: Sequence[np.ndarray]
) -> list[PredictedClip]:
    """Clips with their own codes [T, K] and the predicted ones."""
    return [
        PredictedClip(item=item, true_TK=true_TK, predicted_TK=predicted_TK)
        for item, true_TK, predicted_TK in zip(items, true, predicted, strict=True)
    ]


def chosen_clips(corpus: Corpus, training: PredictedTraining) -> list[int]:
    """Places of the training clips to predict, in the corpus's order."""
    rng = np.random.default_rng(training.seed)
    found: list[int] = []
    for domain, most in (("speech", training.speech_clips), ("music", training.music_clips)):
        places = [at for at, item in enumerate(corpus) if (item.split, item.domain) == ("train", domain)]
        found += rng.permutation(places)[:most].tolist()
    return sorted(found)


def _hash(values: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for value in values:
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
