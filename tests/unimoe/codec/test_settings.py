"""Settings of codec training: errors that name the field, and the learning rate."""

from __future__ import annotations

import pytest

from unimoe.codec.settings import AdversarialTraining, CodecTraining
from unimoe_runtime.errors import ConfigError


def test_settings_name_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="music_share is 2"):
        CodecTraining(music_share=2)
    with pytest.raises(ConfigError, match="codebooks_from_step is 9; it must be below num_steps"):
        CodecTraining(num_steps=9, codebooks_from_step=9)
    with pytest.raises(ConfigError, match="period_channels"):
        AdversarialTraining(period_channels=(4,))


def test_the_learning_rate_warms_up_and_falls() -> None:
    training = CodecTraining(num_steps=1000, warmup_steps=100, learning_rate=1e-3, final_learning_rate=1e-4)
    rates = [training.learning_rate_at(step) for step in (0, 99, 550, 1000)]
    assert rates == pytest.approx([1e-5, 1e-3, 5.5e-4, 1e-4])
