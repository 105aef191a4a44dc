"""Trains a decoder on invented predictions, in one process or many: `python tiny_predicted.py CORPUS CODEC RUN`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unimoe.codec.base import load_codec
from unimoe.codec.common import TrainedCodec
from unimoe.codec.predicted import PredictedClip, PredictedTrainer
from unimoe.codec.settings import PredictedTraining
from unimoe.codec.training import train_codec
from unimoe.data.corpus import Corpus
from unimoe.world import World, open_world

# Two parts of seven rows: the second begins with an odd row, whose pitch is not told.
TRAINING = PredictedTraining(
    num_steps=4, warmup_steps=1, batch_size=7, segment_frames=24, music_share=0.5, true_share=0.5, envelope_weight=1.0
)


def real_clips(corpus: Corpus, codec: TrainedCodec[Any]) -> list[PredictedClip]:
    """Each clip with its own tokens, of which three in ten are predicted wrongly."""
    rng = np.random.default_rng(0)
    clips = []
    for item in corpus:
        true_TK = codec.encode(torch.from_numpy(item.pcm())[None])[0].T.numpy()
        wrong_TK = np.where(rng.random(true_TK.shape) < 0.3, rng.integers(16, size=true_TK.shape), true_TK)
        clips.append(PredictedClip(item=item, true_TK=true_TK, predicted_TK=wrong_TK))
    return clips


def train(corpus_dir: Path, codec_dir: Path, run: Path, world: World) -> None:
    corpus, codec = Corpus.open(corpus_dir), load_codec(codec_dir)
    assert isinstance(codec, TrainedCodec)
    train_codec(PredictedTrainer(codec, TRAINING, corpus, real_clips(corpus, codec), world), run)


if __name__ == "__main__":
    torch.set_num_threads(1)
    places = [Path(argument) for argument in sys.argv[1:]]
    with open_world() as here:
        train(places[0], places[1], places[2], here)
