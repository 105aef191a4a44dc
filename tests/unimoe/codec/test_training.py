"""Training of our codecs lowers the loss, resumes, and keeps given tokens."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tests.interruptions import interrupted_everywhere
from tests.unimoe.codec.shapes import SMALL
from unimoe.codec import common
from unimoe.codec import training as codec_training
from unimoe.codec.base import load_codec
from unimoe.codec.convnext import ConvNeXtCodec
from unimoe.codec.settings import CodecTraining
from unimoe.codec.trainer import CodecTrainer
from unimoe.codec.training import save_training, train_codec
from unimoe.data.corpus import Corpus
from unimoe_runtime.files import atomic, locked_path

TRAINING = CodecTraining(
    num_steps=24, warmup_steps=4, codebooks_from_step=12, batch_size=2, segment_frames=24, learning_rate=4e-3
)


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


def test_a_signal_at_any_moment_of_a_save_leaves_no_partial_file(corpus: Corpus, tmp_path: Path) -> None:
    trainer = CodecTrainer(SMALL, TRAINING, corpus)
    traced = (atomic, locked_path, common, codec_training)
    for place in interrupted_everywhere(partial(save_training, trainer), tmp_path, traced, stride=29):
        names = {path.name for path in place.rglob("*")}
        assert names <= {"training.pt", "codec", "config.json", "model.safetensors"}, f"before bytecode {place.name}"
        if (place / "codec" / "config.json").exists():  # the last file
            assert load_codec(place / "codec").num_codebooks == SMALL.num_codebooks
