"""Settings of a run: errors that name the field, and the learning rate."""

from __future__ import annotations

import pytest

from tests.unimoe.training.tiny_training import config, training
from unimoe.training.trainer import Trainer
from unimoe_runtime.errors import ConfigError


def test_configurations_name_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="token_noise is 3"):
        training(token_noise=3.0)
    with pytest.raises(ConfigError, match="nothing to train on"):
        Trainer(config(), training(), [])


def test_learning_rate_warms_up_and_falls() -> None:
    rates = [training(num_steps=100).learning_rate_at(step) for step in range(101)]
    assert rates[:5] == sorted(rates[:5]) and rates[4] == pytest.approx(5e-3)
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[100] == pytest.approx(0.05 * 5e-3)
