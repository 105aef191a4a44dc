"""The material of recipes: a codec with kept codebooks, a retrained decoder, and a finish."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.unimoe.codec.shapes import SMALL
from unimoe.codec.base import load_codec
from unimoe.codec.convnext import ConvNeXtCodec
from unimoe.data.corpus import Corpus, write_index
from unimoe.training.material import make_codec, open_corpus
from unimoe_runtime.errors import ConfigError


def test_a_recipe_keeps_the_first_codebooks_and_trains_the_decoder_for_them(corpus: Corpus, tmp_path: Path) -> None:
    steps = {"num_steps": 4, "warmup_steps": 1, "batch_size": 2, "segment_frames": 24}
    fields = {
        **steps, "codebooks_from_step": 1, "kept_codebooks": 2, "shape": SMALL.to_dict(),
        "decoder": {**steps, "shape": {"num_decoder_blocks": 3, "synthesis_frames": 4}},
    }  # fmt: skip
    lines: list[str] = []
    folder = make_codec(fields, corpus, tmp_path, lines.append)
    made, first = load_codec(folder), load_codec(tmp_path / "codec-run" / "codec")
    assert isinstance(made, ConvNeXtCodec) and len(made.decoder.blocks) == 3 and made.config.synthesis_frames == 4
    pcm_BL = torch.from_numpy(corpus[0].pcm()[None])
    assert made.num_codebooks == 2 and torch.equal(made.encode(pcm_BL), first.encode(pcm_BL)[:, :2])
    assert [line.split(":")[0] for line in lines] == ["training the codec", "training the codec's decoder"]
    assert "kept_codebooks" in fields, "the recipe is read once for every stage"


def test_a_codec_that_exists_is_used_as_it_is_or_cut(corpus: Corpus, tmp_path: Path) -> None:
    ConvNeXtCodec(SMALL).save(tmp_path / "made")
    fields = {"folder": str(tmp_path / "made")}
    assert make_codec(fields, corpus, tmp_path, print) == tmp_path / "made"
    assert make_codec({**fields, "kept_codebooks": 2}, corpus, tmp_path, print) == tmp_path / "codec"
    assert load_codec(tmp_path / "codec").num_codebooks == 2
    assert not (tmp_path / "codec-run").exists()


def test_a_recipe_may_name_another_ones_data(corpus: Corpus, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_index(folder, [], sample_rate_hz=24000, licences={}, seed=0)
    other = tmp_path / "other.toml"
    other.write_text(f'[data]\nfolder = "{folder}"\n')
    assert open_corpus({"recipe": str(other)}, tmp_path, print).sample_rate_hz == 24000
    other.write_text("[codec]\n")
    with pytest.raises(ConfigError, match=r"other\.toml: the section \[data\] is missing"):
        open_corpus({"recipe": str(other)}, tmp_path, print)
    with pytest.raises(ConfigError, match="recipe is 3; it must be"):
        open_corpus({"recipe": 3}, tmp_path, print)


def test_a_recipe_that_does_not_fit_is_one_line(corpus: Corpus, tmp_path: Path) -> None:
    steps = {"num_steps": 2, "warmup_steps": 1, "batch_size": 2, "segment_frames": 24}
    fields = {**steps, "codebooks_from_step": 1, "shape": SMALL.to_dict()}
    for wrong, said in (
        ({"steps": 3}, "CodecTraining does not know the field 'steps'"),
        ({"decoder": {"steps": 3}}, "CodecTraining does not know the field 'steps'"),
        ({"decoder": {**steps, "shape": {"blocks": 3}}}, "ConvNeXtCodecConfig does not know the field 'blocks'"),
        ({"decoder": {**steps, "shape": {"width": 48}}}, "may not differ in width"),
        ({"decoder": {**steps, "shape": {"band_floor": 1e-2}}}, "may not differ in band_floor"),
    ):
        with pytest.raises(ConfigError, match=said):
            make_codec({**fields, **wrong}, corpus, tmp_path, lambda line: None)
