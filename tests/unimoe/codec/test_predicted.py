"""A decoder trained on predicted tokens: which tokens it hears, silence after short clips, what stays, resuming."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.command_line import PACKAGE_ROOTS
from tests.unimoe.codec import tiny_predicted
from tests.unimoe.codec.shapes import SMALL, SMALL_HARMONIC
from unimoe.codec.base import load_codec, new_codec
from unimoe.codec.common import TrainedCodec
from unimoe.codec.config import CodecShape
from unimoe.codec.predicted import PredictedClip, PredictedSegments, PredictedTrainer
from unimoe.codec.settings import PredictedTraining
from unimoe.codec.training import save_training, train_codec
from unimoe.data.corpus import Corpus
from unimoe.world import World

TRAINING = PredictedTraining(
    num_steps=6, warmup_steps=1, batch_size=4, segment_frames=24, music_share=0.5, true_share=0.5
)
HOP = 320
SILENCE_K = np.array([7, 7, 7, 7])


def some_codec(shape: CodecShape = SMALL) -> TrainedCodec[CodecShape]:
    torch.manual_seed(0)
    codec = new_codec(shape).eval()
    codec.codebooks.weight.normal_()
    return codec


def some_clips(corpus: Corpus) -> list[PredictedClip]:
    """Each frame's true tokens are its number, the predicted ones 100 more."""
    true_TK = np.repeat(np.arange(-(-12000 // HOP))[:, None], 4, axis=1).astype(np.int16)
    return [PredictedClip(item=item, true_TK=true_TK, predicted_TK=true_TK + 100) for item in corpus]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_segments_tokens_are_those_of_its_samples(corpus: Corpus, share: float) -> None:
    segments = PredictedSegments(some_clips(corpus), replace(TRAINING, true_share=share), HOP, SILENCE_K)
    of_each = {item.pcm().tobytes(): item.pcm() for item in corpus}
    predicted = 0
    for seed in range(10):
        batch = segments.batch(np.random.default_rng(seed))
        assert batch.codes_BKT is not None
        assert batch.real_BL.shape == (4, 24 * HOP) and batch.codes_BKT.shape == (4, 4, 24)
        for real_L, codes_KT in zip(batch.real_BL.numpy(), batch.codes_BKT.numpy(), strict=True):
            is_predicted = codes_KT.min() >= 100
            predicted += is_predicted
            frames_T = codes_KT[0] - 100 * is_predicted
            np.testing.assert_array_equal(np.diff(frames_T), 1)
            at = slice(frames_T[0] * HOP, (frames_T[-1] + 1) * HOP)
            assert any(np.array_equal(real_L, pcm_L[at]) for pcm_L in map(padded, of_each.values()))
    assert {0.0: predicted == 40, 0.5: 5 < predicted < 35, 1.0: predicted == 0}[share]


def padded(pcm_L: np.ndarray) -> np.ndarray:
    return np.pad(pcm_L, (0, -len(pcm_L) % HOP))


def test_silence_follows_a_clip_that_is_shorter(corpus: Corpus) -> None:
    segments = PredictedSegments(some_clips(corpus), replace(TRAINING, segment_frames=60), HOP, SILENCE_K)
    batch = segments.batch(np.random.default_rng(0))
    assert batch.codes_BKT is not None and batch.codes_BKT.shape == (4, 4, 60)
    assert (batch.codes_BKT[:, :, 38:] == 7).all() and (batch.real_BL[:, 12000:] == 0).all()
    assert (batch.codes_BKT[:, 0, :38] % 100 == torch.arange(38)).all()


@pytest.mark.parametrize("domain", ["speech", "music"])
def test_one_domain_is_enough(corpus: Corpus, domain: str) -> None:
    clips = [clip for clip in some_clips(corpus) if clip.item.domain == domain]
    assert len(PredictedSegments(clips, TRAINING, HOP, SILENCE_K).batch(np.random.default_rng(0)).real_BL) == 4


@pytest.mark.parametrize("shape", [SMALL, SMALL_HARMONIC], ids=["convnext", "harmonic"])
def test_only_the_decoder_changes_and_a_stopped_run_ends_the_same(
    corpus: Corpus, shape: CodecShape, tmp_path: Path
) -> None:
    some_codec(shape).save(tmp_path / "codec")
    codec = load_codec(tmp_path / "codec")
    assert isinstance(codec, TrainedCodec)
    clips = tiny_predicted.real_clips(corpus, codec)
    whole = PredictedTrainer(codec, TRAINING, corpus, clips)
    losses = list(whole.steps())
    assert len(losses) == 6 and all(np.isfinite(list(step.values())).all() for step in losses)
    for name, tensor in whole.codec.state_dict().items():
        if not name.startswith("decoder."):
            assert torch.equal(tensor, codec.state_dict()[name]), name
    name = "decoder.blocks.1.expand.weight"
    assert not torch.equal(whole.codec.state_dict()[name], codec.state_dict()[name])

    stopped = PredictedTrainer(codec, TRAINING, corpus, clips)
    for _ in range(3):
        stopped.train_step()
    (tmp_path / "run").mkdir()
    save_training(stopped, tmp_path / "run")
    resumed = train_codec(PredictedTrainer(codec, TRAINING, corpus, clips), tmp_path / "run")
    for name, tensor in whole.codec.state_dict().items():
        assert torch.allclose(tensor, resumed.state_dict()[name], atol=1e-5), name
    pcm_BL = torch.from_numpy(corpus[0].pcm())[None]
    assert torch.equal(load_codec(tmp_path / "run" / "codec").encode(pcm_BL), codec.encode(pcm_BL))


def test_the_decoder_hears_the_given_tokens(corpus: Corpus) -> None:
    """With true tokens alone, predictions make no difference; with predictions alone they do."""
    codec = some_codec()
    clips = tiny_predicted.real_clips(corpus, codec)
    true = [replace(clip, predicted_TK=clip.true_TK) for clip in clips]
    for share, same in ((1.0, True), (0.0, False)):
        training = replace(TRAINING, true_share=share)
        one, other = (
            PredictedTrainer(codec, training, corpus, each).train_step()["distance"] for each in (clips, true)
        )
        assert (one == other) is same


@pytest.mark.slow
@pytest.mark.parametrize("shape", [SMALL, SMALL_HARMONIC], ids=["convnext", "harmonic"])
def test_two_processes_train_the_decoder_that_one_does(corpus: Corpus, shape: CodecShape, tmp_path: Path) -> None:
    some_codec(shape).save(tmp_path / "codec")
    tiny_predicted.train(tmp_path, tmp_path / "codec", tmp_path / "one", World())
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    paths = [str(tmp_path / name) for name in ("", "codec", "two")]
    environment = {**os.environ, "PYTHONPATH": PACKAGE_ROOTS, "OMP_NUM_THREADS": "1"}
    order = [*torchrun, tiny_predicted.__file__, *paths]
    done = subprocess.run(order, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / name / "training.pt", weights_only=True) for name in ("one", "two"))
    assert one["step"] == two["step"] == tiny_predicted.TRAINING.num_steps
    start = load_codec(tmp_path / "codec")
    assert isinstance(start, TrainedCodec)
    for name, value in one["codec"].items():
        torch.testing.assert_close(two["codec"][name], value, atol=2e-5, rtol=1e-3, msg=name)
    name = "decoder.blocks.1.expand.weight"
    assert (one["codec"][name] - start.state_dict()[name]).abs().max() > 1e-3, "training moves weights much further"
    files = {path.name for path in (tmp_path / "two").iterdir()}
    assert files == {"training.pt", "log.jsonl", "codec"}
