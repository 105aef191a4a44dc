"""Configurations of our codecs: errors name the field, the value and the allowed range."""

from __future__ import annotations

import pytest

from tests.unimoe.codec.shapes import SMALL
from unimoe.codec.config import ConvNeXtCodecConfig, HarmonicCodecConfig
from unimoe_runtime.errors import ConfigError


def test_configuration_is_validated() -> None:
    with pytest.raises(ConfigError, match="window_samples is 1024"):
        ConvNeXtCodecConfig(window_samples=1024)
    with pytest.raises(ConfigError, match="num_codebooks is 0"):
        ConvNeXtCodecConfig(num_codebooks=0)
    with pytest.raises(ConfigError, match="synthesis_frames is 3; it must divide hop_samples, 320"):
        ConvNeXtCodecConfig(synthesis_frames=3)
    assert ConvNeXtCodecConfig.from_dict(SMALL.to_dict()) == SMALL


def test_the_pitches_of_a_harmonic_codec_lie_below_a_quarter_of_the_rate() -> None:
    with pytest.raises(ConfigError, match="lowest_pitch_hz is 500"):
        HarmonicCodecConfig(lowest_pitch_hz=500.0)
    with pytest.raises(ConfigError, match="inner_width is 0"):
        HarmonicCodecConfig(inner_width=0)
    with pytest.raises(ConfigError, match="kind is 'convnext'; it must be 'harmonic'"):
        HarmonicCodecConfig.from_dict({"kind": "convnext"})
