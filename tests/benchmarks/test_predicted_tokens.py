"""Figures of predicted tokens on a tiny checkpoint: true tokens are the codec's, and the tables have every row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import predicted_tokens
from benchmarks.predicted_tokens import (
    COARSE_FIRST,
    CODEC,
    FIRST,
    Speaker,
    as_markdown,
    chosen_clips,
    measure,
    versions,
)
from tests.runtime.frontend.small_frontend import write_frontend
from tests.unimoe.codec.shapes import SMALL
from tests.unimoe.training.tiny_recipe import write_corpus
from unimoe.checkpoint import CheckpointParts, save_checkpoint
from unimoe.codec.base import new_codec
from unimoe.config import preset
from unimoe.data.codes import encode_clips
from unimoe.data.corpus import Corpus
from unimoe.model import UniMoE
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.frontend import open_frontend
from unimoe_runtime.frontend.timeline import TimelineFrontEnd


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("predicted") / "corpus"
    write_corpus(folder)
    return Corpus.open(folder)


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Speaker:
    folder = tmp_path_factory.mktemp("speaker")
    torch.manual_seed(0)
    codec = new_codec(SMALL)
    codec.codebooks.weight.normal_()
    codec.save(folder / "codec")
    frontend = open_frontend(write_frontend(folder / "frontend"))
    assert isinstance(frontend, TimelineFrontEnd)
    config = preset(
        "tiny", text_vocab_size=len(frontend.tokens), num_codebooks=4, codebook_size=16, delay_pattern=[0, 1, 1, 2]
    )
    parts = CheckpointParts(codec_dir=folder / "codec", frontend_dir=folder / "frontend")
    sampling = {"speech": SamplingConfig(temperature=0.1), "music": SamplingConfig(temperature=0.4)}
    save_checkpoint(folder / "checkpoint", UniMoE(config), parts, sampling=sampling)
    return Speaker(folder / "checkpoint")


def test_each_row_has_the_true_tokens_below_its_codebook(speaker: Speaker, corpus: Corpus) -> None:
    item = corpus.select(split="test", domain="music")[0]
    [true_TK] = encode_clips([item], speaker.codec)
    codes, tokens_2K = versions(speaker, item, true_TK)
    np.testing.assert_array_equal(codes[CODEC], true_TK)
    for first in range(4):
        np.testing.assert_array_equal(codes[f"from codebook {first}"][:, :first], true_TK[:, :first])
        assert (codes[f"from codebook {first}"][:, first] != true_TK[:, first]).any()
    np.testing.assert_array_equal(codes[FIRST][:, 1:], true_TK[:, 1:])
    assert codes[COARSE_FIRST].shape == true_TK.shape and tokens_2K.shape == (2, 4)
    assert (tokens_2K[1] > 1).all(), "a random model knows nothing"
    assert ((tokens_2K[0] >= 0) & (tokens_2K[0] <= 1)).all() and tokens_2K[0].mean() < 0.5


def test_the_tables_have_both_domains(speaker: Speaker, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicted_tokens, "Dnsmos", lambda: lambda pcm_L: (1.0, 2.0, 3.0))
    monkeypatch.setattr(predicted_tokens, "KINDS", ("words",))
    items = chosen_clips(corpus, 6)
    assert [item.domain for item in items] == ["speech", "music"]
    result = measure(speaker, corpus, items)
    text = as_markdown(result)
    assert "| from codebook 0 | 3.00 |" in text and "| recording | 3.00 | 1 of 1 |" in text
    assert "| codebook | 0 | 1 | 2 | 3 |" in text and "temperature 0.4" in text
    del result["speech"]["scores"]["recording"]
    assert "| recording | not measured |" in as_markdown({"speech": result["speech"], "music": result["music"]})


def test_an_incomplete_checkpoint_is_one_line(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "bare", UniMoE(preset("tiny")))
    with pytest.raises(CheckpointError, match="has no codec or no front end: name a complete checkpoint"):
        Speaker(tmp_path / "bare")
