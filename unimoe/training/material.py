"""A recipe's training material: corpus, codec, front end and codec tokens, each made once in the working folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unimoe.codec.adversarial import AdversarialTrainer
from unimoe.codec.base import Codec, codec_config, load_codec
from unimoe.codec.common import TrainedCodec
from unimoe.codec.settings import AdversarialTraining, CodecTraining
from unimoe.codec.trainer import CodecTrainer
from unimoe.codec.training import train_codec
from unimoe.config import preset
from unimoe.data.corpus import Corpus, Item
from unimoe.data.recipe import CorpusRecipe
from unimoe.data.rendering import render_corpus
from unimoe.training.examples import Example, encode_items, make_examples, read_codes
from unimoe.training.frontend import FrontEndRecipe, check_paces, write_frontend
from unimoe.training.products import Products
from unimoe.training.recipe_check import data_section
from unimoe.training.versions import VersionRecipe, versions_of
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import ConfigError
from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.frontend.timeline import TimelineFrontEnd

Report = Callable[[str], None]
_CODES, _VERSION_CODES = "codes.npz", "version-codes.npz"
_LATER_STEPS = ("kept_codebooks", "decoder", "finish")  # fields of [codec] that do not concern its first step


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """Training clips and further versions of them, their codec tokens, and the folders of codec and front end."""

    corpus: Corpus
    codes: Sequence[np.ndarray]
    frontend: TimelineFrontEnd
    codec: Codec
    codec_dir: Path
    frontend_dir: Path
    versions: Sequence[Item] = ()
    version_codes: Sequence[np.ndarray] = ()

    def model_config(self, values: dict[str, Any]) -> ModelConfig:
        """The demo's preset with the codec's and the front end's sizes, and with `values` as further fields."""
        return preset(
            "demo",
            text_vocab_size=len(self.frontend.tokens),
            num_codebooks=self.codec.num_codebooks,
            codebook_size=self.codec.codebook_size,
            **{"delay_pattern": list(range(self.codec.num_codebooks)), **values},
        )

    def examples(self, split: str, config: ModelConfig) -> list[Example]:
        """Examples of every clip of a split, in the corpus's order, then of the split's versions."""
        items, codes = [*self.corpus, *self.versions], [*self.codes, *self.version_codes]
        chosen = [index for index, item in enumerate(items) if item.split == split]
        return make_examples([items[i] for i in chosen], [codes[i] for i in chosen], self.frontend, config)


def prepare(recipe: dict[str, Any], work: Path, report: Report) -> Material:
    """Make the material that `work` lacks. In [data] and [codec], `folder` names an existing corpus or codec.

    [data] `recipe` names another file whose [data] is used. [codec.shape] is the codec's configuration. The first
    `kept_codebooks` of its codebooks are used, [codec.decoder] retrains the decoder for them, and [codec.finish] trains
    it against discriminators. Clips of the sources in [train] `leave_out` only train the codec. [versions] adds changed
    versions of spoken clips to the training split (`unimoe.training.versions`).
    """
    _require_products(recipe, work)
    corpus = open_corpus(recipe["data"], work, report)
    frontend_recipe = FrontEndRecipe.from_dict(recipe["frontend"])
    check_paces(frontend_recipe, corpus)  # before the hours that a codec takes
    codec_dir = make_codec(recipe["codec"], corpus, work, report)
    codec = load_codec(codec_dir)

    left_out = set(recipe["train"].get("leave_out", ()))
    told = (item for item in corpus if item.captioned and item.source not in left_out)
    heard = replace(corpus, items=tuple(told))
    frontend_dir = work / "frontend"
    if not (frontend_dir / "frontend.json").exists():
        report("making the front end")
        rate_hz = codec.sample_rate_hz / codec.hop_samples
        write_frontend(frontend_dir, heard, frontend_recipe, frame_rate_hz=rate_hz)
    frontend = open_frontend(frontend_dir)
    assert isinstance(frontend, TimelineFrontEnd)
    wanted = VersionRecipe.from_dict(recipe.get("versions", {}))
    versions = versions_of(heard, wanted, corpus.sample_rate_hz)
    return Material(
        corpus=heard,
        codes=_codes(heard.items, codec, work / _CODES),
        frontend=frontend,
        codec=codec,
        codec_dir=codec_dir,
        frontend_dir=frontend_dir,
        versions=versions,
        version_codes=_codes(versions, codec, work / _VERSION_CODES) if versions else (),
    )


def _codes(items: Sequence[Item], codec: Codec, path: Path) -> list[np.ndarray]:
    return read_codes(path, len(items)) if path.exists() else encode_items(items, codec, path)


def _require_products(recipe: dict[str, Any], work: Path) -> None:
    """Raise ConfigError where `work` holds a product of sections that differ from those of the recipe."""
    data = data_section(recipe["data"])
    of_codec = {"data": data, "codec": recipe["codec"]}
    leave_out = {"leave_out": recipe["train"].get("leave_out", [])}
    products = Products(work)
    for name, made_from in {
        "corpus": {"data": data},
        "codec-run": of_codec,
        "codec": of_codec,
        "frontend": {**of_codec, "frontend": recipe["frontend"], **leave_out},
        _CODES: {**of_codec, **leave_out},
        _VERSION_CODES: {**of_codec, **leave_out, "versions": recipe.get("versions", {})},
    }.items():
        products.require(work / name, made_from)


def open_corpus(data: Mapping[str, Any], work: Path, report: Report) -> Corpus:
    """The corpus of a recipe's [data]. Rendered into `work` unless it exists there or [data] names its folder."""
    data = data_section(data)
    corpus_dir = Path(data.get("folder", work / "corpus"))
    if "folder" not in data and not (corpus_dir / "index.jsonl").exists():
        report("rendering the corpus")
        render_corpus(corpus_dir, CorpusRecipe.from_dict(data))
    return Corpus.open(corpus_dir)


def make_codec(fields: Mapping[str, Any], corpus: Corpus, work: Path, report: Report) -> Path:
    """The folder of the codec of a recipe's [codec]: trained, cut to its first codebooks, with a retrained decoder
    ([codec.decoder]), and finished against discriminators ([codec.finish]).

    All steps but the first are optional (see `prepare`). With `folder`, the codec already exists.
    """
    kept, of_decoder, of_finish = (fields.get(name) for name in _LATER_STEPS)
    run = work / "codec-run"
    folder = Path(fields["folder"]) if "folder" in fields else run / "codec"
    trained = None if "folder" in fields else _train_first(fields, corpus, run, report)
    if not (kept or of_decoder or of_finish):
        return folder
    codec = trained or own_codec(folder)
    if kept:
        codec = codec.with_codebooks(kept)
    if of_decoder:
        codec = _retrain_decoder(codec, of_decoder, corpus, work / "decoder-run", report)
    if of_finish:
        finish = AdversarialTrainer(codec, AdversarialTraining.from_dict(of_finish), corpus)
        codec = train_codec(finish, work / "finish-run", report)
    codec.save(work / "codec")
    return work / "codec"


def _train_first(fields: Mapping[str, Any], corpus: Corpus, run: Path, report: Report) -> TrainedCodec[Any]:
    """Train a codec from random weights; `fields` is the section [codec]."""
    settings = {name: value for name, value in fields.items() if name not in ("shape", *_LATER_STEPS)}
    shape = codec_config(fields.get("shape", {}))
    return train_codec(CodecTrainer(shape, CodecTraining.from_dict(settings), corpus), run, report)


def _retrain_decoder(
    codec: TrainedCodec[Any], fields: Mapping[str, Any], corpus: Corpus, run: Path, report: Report
) -> TrainedCodec[Any]:
    """Train a decoder for the codec's tokens; `fields` is the section [codec.decoder]."""
    settings = {name: value for name, value in fields.items() if name != "shape"}
    shape = codec_config({**codec.config.to_dict(), **fields.get("shape", {})})
    training = CodecTraining.from_dict({"codebooks_from_step": 0, **settings})
    return train_codec(CodecTrainer(shape, training, corpus, codec), run, report)


def own_codec(folder: Path) -> TrainedCodec[Any]:
    """One of the project's own codecs, for training. Raises ConfigError where the folder holds another kind."""
    codec = load_codec(folder)
    if not isinstance(codec, TrainedCodec):
        raise ConfigError(f"{folder} holds a codec of another kind; only our own can be trained")
    return codec
