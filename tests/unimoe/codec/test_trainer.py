"""A codec's trainer lowers the losses and refuses a corpus that does not fit."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unimoe.codec.shapes import SMALL, SMALL_HARMONIC
from unimoe.codec.config import CodecShape, ConvNeXtCodecConfig
from unimoe.codec.settings import CodecTraining
from unimoe.codec.trainer import CodecTrainer
from unimoe.data.corpus import Corpus
from unimoe_runtime.errors import ConfigError

TRAINING = CodecTraining(
    num_steps=24, warmup_steps=4, codebooks_from_step=12, batch_size=2, segment_frames=24, learning_rate=4e-3
)


@pytest.mark.parametrize(("shape", "share"), [(SMALL, 0.7), (SMALL_HARMONIC, 0.85)], ids=["convnext", "harmonic"])
def test_a_short_training_lowers_the_losses(corpus: Corpus, shape: CodecShape, share: float) -> None:
    """The harmonic codec starts with the bands' envelope, so its distance falls little; its own losses fall more."""
    losses = [step["distance"] + step["own"] for step in CodecTrainer(shape, TRAINING, corpus).steps()]
    assert len(losses) == 24
    assert np.mean(losses[-4:]) < share * np.mean(losses[:2])


def test_training_refuses_another_rate(corpus: Corpus) -> None:
    config = ConvNeXtCodecConfig(sample_rate_hz=24000)
    with pytest.raises(ConfigError, match="the corpus is at 16000 Hz"):
        CodecTrainer(config, TRAINING, corpus)
