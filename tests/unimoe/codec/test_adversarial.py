"""The adversarial finish: it keeps the tokens, trains both sides, and resumes."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.unimoe.codec.shapes import SMALL_HARMONIC
from unimoe.codec.adversarial import AdversarialTrainer
from unimoe.codec.harmonic import HarmonicCodec
from unimoe.codec.settings import AdversarialTraining
from unimoe.codec.training import save_training, train_codec
from unimoe.data.corpus import Corpus

TRAINING = AdversarialTraining(
    num_steps=6, warmup_steps=1, batch_size=2, segment_frames=20, adversarial_from_step=2, period_channels=(4, 8),
    spectral_channels=4,
)  # fmt: skip


def some_codec() -> HarmonicCodec:
    torch.manual_seed(0)
    codec = HarmonicCodec(SMALL_HARMONIC).eval()
    codec.codebooks.weight.normal_()
    return codec


def test_the_tokens_stay_and_the_decoder_changes(corpus: Corpus) -> None:
    codec = some_codec()
    trainer = AdversarialTrainer(codec, TRAINING, corpus)
    before = {name: tensor.clone() for name, tensor in trainer.discriminators.state_dict().items()}
    losses = list(trainer.steps())
    assert "score" not in losses[1] and losses[2]["features"] > 0 and losses[-1]["judged"] > 0
    pcm_BL = torch.from_numpy(corpus[0].pcm())[None]
    assert torch.equal(trainer.codec.encode(pcm_BL), codec.encode(pcm_BL))
    name = "decoder.head.weight"
    assert not torch.equal(trainer.codec.state_dict()[name], codec.state_dict()[name])
    after = trainer.discriminators.state_dict()
    assert any(not torch.equal(after[name], tensor) for name, tensor in before.items())


def test_it_goes_on_where_it_stopped(corpus: Corpus, tmp_path: Path) -> None:
    whole = AdversarialTrainer(some_codec(), TRAINING, corpus)
    for _ in whole.steps():
        pass
    stopped = AdversarialTrainer(some_codec(), TRAINING, corpus)
    for _ in range(4):
        stopped.train_step()
    save_training(stopped, tmp_path)
    resumed = train_codec(AdversarialTrainer(some_codec(), TRAINING, corpus), tmp_path)
    for name, tensor in whole.codec.state_dict().items():
        assert torch.allclose(tensor, resumed.state_dict()[name], atol=1e-5), name
