"""Segments: the requested length, silence after short clips, equal shares of sources, equal results for equal seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from unimoe.codec.segments import Segments
from unimoe.codec.settings import CodecTraining
from unimoe.data.corpus import Corpus

SHAPE = CodecTraining(batch_size=6, segment_frames=20, music_share=0.5)


def test_segments_are_of_one_length_and_the_same_again(corpus: Corpus) -> None:
    segments = Segments(corpus.items, SHAPE, 320)
    one, other = (segments.batch(np.random.default_rng(3)).real_BL for _ in range(2))
    assert one.shape == (6, 6400) and one.dtype == torch.float32 and torch.equal(one, other)
    assert not torch.equal(one, segments.batch(np.random.default_rng(4)).real_BL)


def test_silence_follows_a_clip_that_is_shorter(corpus: Corpus) -> None:
    made = Segments(corpus.items, replace(SHAPE, segment_frames=80), 320).batch(np.random.default_rng(0)).real_BL
    assert made.shape == (6, 25600) and (made[:, 12000:] == 0).all() and made[:, :12000].abs().amax(1).min() > 0.05


def test_without_music_all_is_speech(corpus: Corpus) -> None:
    speech = [item for item in corpus if item.domain == "speech"]
    assert len(Segments(speech, SHAPE, 320).batch(np.random.default_rng(0)).real_BL) == 6
