"""A package for another machine: its contents are restored, it stays small, and a timed run trains model and codec."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unimoe.codec.shapes import SMALL_HARMONIC
from tests.unimoe.training import tiny_training
from unimoe.checkpoint import load_model
from unimoe.codec.base import load_codec
from unimoe.codec.harmonic import HarmonicCodec
from unimoe.codec.settings import PredictedTraining
from unimoe.data.corpus import Corpus, write_audio, write_index
from unimoe.training.curriculum import STAGES, CurriculumConfig
from unimoe.training.decoder import DecoderSettings
from unimoe.training.examples import Example
from unimoe.training.package import PackageLimits, PackageParts, open_package, write_package
from unimoe.training.timed import TimeBudget, train_in_time
from unimoe_runtime.errors import CheckpointError, OutputError

LIMITS = PackageLimits(total_mb=5, audio_mb=1)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    folder = tmp_path / "corpus"
    folder.mkdir()
    items = []
    for source, domain in (("heart", "speech"), ("flute", "music")):
        clips = [0.2 * np.sin(2 * np.pi * f * np.arange(12000) / 16000) for f in (200, 300, 400)]
        for offset, clip in zip(write_audio(folder / f"{source}.npy", clips), clips, strict=True):
            place = {"source": source, "split": "train", "offset": offset, "length": len(clip)}
            items.append({"domain": domain, "kind": "digits", "text": "one", **place})
    write_index(folder, items, sample_rate_hz=16000, licences={"heart": "none", "flute": "none"}, seed=0)
    return Corpus.open(folder)


@pytest.fixture
def config() -> CurriculumConfig:
    names = [name for name in STAGES if name != "merge"]
    stages = {name: tiny_training.training(num_steps=4, guide_layers=(0,)) for name in names}
    stages["warmup"] = replace(stages["warmup"], trained="gate and shared")
    return CurriculumConfig(model=tiny_training.config(), stages=stages)


@pytest.fixture
def examples() -> dict[str, list[Example]]:
    return {"train": tiny_training.make_examples(24), "valid": tiny_training.make_examples(4)}


@pytest.fixture
def parts(tmp_path: Path, corpus: Corpus, config: CurriculumConfig, examples: dict[str, list[Example]]) -> PackageParts:
    torch.manual_seed(0)
    codec = HarmonicCodec(replace(SMALL_HARMONIC, num_codebooks=config.model.num_codebooks))
    codec.codebooks.weight.normal_()
    codec.save(tmp_path / "codec")
    training = PredictedTraining(segment_frames=24, warmup_steps=1)
    decoder = DecoderSettings(training=training, temperatures={"speech": 0.5, "music": 0.0}, bfloat16=True)
    return PackageParts(config=config, examples=examples, corpus=corpus, codec_dir=tmp_path / "codec", decoder=decoder)


@pytest.fixture
def package(tmp_path: Path, parts: PackageParts) -> Path:
    assert write_package(tmp_path / "package", parts, LIMITS) < 1e6
    return tmp_path / "package"


def test_what_is_packed_comes_out_again(
    package: Path, config: CurriculumConfig, examples: dict[str, list[Example]], corpus: Corpus
) -> None:
    opened = open_package(package)
    assert opened.config == config
    assert {split: len(chosen) for split, chosen in opened.examples.items()} == {"train": 24, "valid": 4}
    for one, other in zip(examples["train"], opened.examples["train"], strict=True):
        assert one.domain == other.domain
        for name in ("ids_P", "positions_P", "rows_RK", "spoken_T"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert opened.decoder is not None and opened.decoder.training.segment_frames == 24
    for item, example in zip(opened.corpus(), opened.examples_of_corpus(), strict=True):
        clips = [(clip.source, clip.samples().tobytes()) for clip in corpus]
        place = clips.index((item.source, item.samples().tobytes()))
        assert example.ids_P.tolist() == examples["train"][place].ids_P.tolist()
    excerpt = opened.corpus()
    assert len(excerpt) == 6 and excerpt.sample_rate_hz == 16000
    assert sorted(item.samples().tobytes() for item in excerpt) == sorted(i.samples().tobytes() for i in corpus)


def test_a_package_that_is_too_big_or_none_is_one_line(tmp_path: Path, parts: PackageParts, package: Path) -> None:
    with pytest.raises(OutputError, match=r"has 0\.\d MB; at most 0\.01 MB may be carried"):
        write_package(tmp_path / "big", parts, PackageLimits(total_mb=0.01))
    assert not [path for path in tmp_path.iterdir() if "big" in path.name]
    with pytest.raises(OutputError, match="exists: remove it first"):
        write_package(package, parts, LIMITS)
    with pytest.raises(CheckpointError, match="is no training package"):
        open_package(tmp_path / "corpus")


@pytest.mark.slow
def test_a_timed_run_trains_the_model_and_finishes_the_codec(package: Path, tmp_path: Path) -> None:
    budget = TimeBudget(minutes=0.3, codec_share=0.6, batch_size=8, codec_batch_size=2, measured_steps=2)
    result = train_in_time(open_package(package), tmp_path / "out", tmp_path / "work", budget, lambda line: None)
    assert result["model"]["steps"]["joint"] >= 1 and result["codec"]["steps"] >= 1
    assert result["decoder"]["clips"] == 6 and result["decoder"]["steps"] >= 1
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == result
    model = load_model(tmp_path / "out" / "model")
    assert model.config.num_routed_experts == tiny_training.config().num_routed_experts
    made, given = load_codec(tmp_path / "out" / "codec"), load_codec(package / "codec")
    pcm_BL = torch.randn(1, 3200, generator=torch.Generator().manual_seed(0)) * 0.1
    assert torch.equal(made.encode(pcm_BL), given.encode(pcm_BL))
