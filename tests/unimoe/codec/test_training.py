"""Training of our codecs lowers the loss, goes on where it stopped, and keeps given tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unimoe.codec.shapes import SMALL, SMALL_HARMONIC
from unimoe.codec.base import load_codec
from unimoe.codec.config import CodecShape, ConvNeXtCodecConfig
from unimoe.codec.convnext import ConvNeXtCodec
from unimoe.codec.settings import CodecTraining
from unimoe.codec.trainer import CodecTrainer
from unimoe.codec.training import train_codec
from unimoe.data.corpus import Corpus
from unimoe.training.material import make_codec
from unimoe_runtime.errors import ConfigError

TRAINING = CodecTraining(
    num_steps=24, warmup_steps=4, codebooks_from_step=12, batch_size=2, segment_frames=24, learning_rate=4e-3
)


@pytest.mark.parametrize("shape", [SMALL, SMALL_HARMONIC], ids=["convnext", "harmonic"])
def test_a_short_training_lowers_the_losses(corpus: Corpus, shape: CodecShape) -> None:
    """The second codec begins with the bands' envelope, so its distance falls little; its own losses fall much."""
    losses = [step["distance"] + step["own"] for step in CodecTrainer(shape, TRAINING, corpus).steps()]
    assert len(losses) == 24
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:2])


def test_training_goes_on_where_it_stopped(corpus: Corpus, tmp_path: Path) -> None:
    whole = CodecTrainer(SMALL, TRAINING, corpus)
    for _ in whole.steps():
        pass
    stopped = CodecTrainer(SMALL, TRAINING, corpus)
    for _ in range(14):
        stopped.train_step()
    (tmp_path / "run").mkdir()
    torch.save(stopped.state_dict(), tmp_path / "run" / "training.pt")
    resumed = train_codec(CodecTrainer(SMALL, TRAINING, corpus), tmp_path / "run")
    for name, tensor in whole.codec.state_dict().items():
        assert torch.allclose(tensor, resumed.state_dict()[name], atol=1e-5), name
    assert load_codec(tmp_path / "run" / "codec").num_codebooks == 4


def test_a_decoder_is_trained_anew_for_the_same_tokens(corpus: Corpus, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = ConvNeXtCodec(SMALL).eval()
    first.codebooks.weight.normal_()
    shape = replace(SMALL, num_decoder_blocks=3, synthesis_frames=2)
    training = replace(TRAINING, codebooks_from_step=0)
    whole = CodecTrainer(shape, training, corpus, first)
    name = "decoder.blocks.1.expand.weight"
    assert torch.equal(whole.codec.state_dict()[name], first.state_dict()[name])
    losses = [step["distance"] for step in whole.steps()]
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:2])
    stopped = CodecTrainer(shape, training, corpus, first)
    for _ in range(14):
        stopped.train_step()
    (tmp_path / "run").mkdir()
    torch.save(stopped.state_dict(), tmp_path / "run" / "training.pt")
    resumed = train_codec(CodecTrainer(shape, training, corpus, first), tmp_path / "run")
    for name, tensor in whole.codec.state_dict().items():
        assert torch.allclose(tensor, resumed.state_dict()[name], atol=1e-5), name
    pcm_BL = corpus[0].pcm()[None]
    assert torch.equal(resumed.encode(torch.from_numpy(pcm_BL)), first.encode(torch.from_numpy(pcm_BL)))


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


def test_training_refuses_another_rate(corpus: Corpus) -> None:
    config = ConvNeXtCodecConfig(sample_rate_hz=24000)
    with pytest.raises(ConfigError, match="the corpus is at 16000 Hz"):
        CodecTrainer(config, TRAINING, corpus)
