"""Configuration of our codec, free of torch: `config.json` of a codec folder holds exactly these fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unimoe_runtime.config import JsonRecord
from unimoe_runtime.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ConvNeXtCodecConfig(JsonRecord):
    """Shape of a causal ConvNeXt codec (`unimoe.codec.convnext` has the architecture).

    A frame is `hop_samples` long. Analysis windows are `window_samples`, four hops; synthesis makes
    `synthesis_frames` spectra of every frame, each with a window of four of its own, shorter hops.
    """

    kind: Literal["convnext"] = "convnext"
    sample_rate_hz: int = 16000
    hop_samples: int = 320
    window_samples: int = 1280
    num_bands: int = 100
    lowest_band_hz: float = 50.0
    band_break_hz: float = 400.0
    band_floor: float = 1e-3
    width: int = 192
    intermediate_size: int = 576
    kernel_size: int = 7
    num_encoder_blocks: int = 3
    num_decoder_blocks: int = 5
    synthesis_frames: int = 1
    latent_size: int = 64
    num_codebooks: int = 4
    codebook_size: int = 256
    norm_eps: float = 1e-6
    max_log_magnitude: float = 6.0

    def __post_init__(self) -> None:
        if self.kind != "convnext":
            raise ConfigError(f"kind is {self.kind!r}; it must be 'convnext'")
        for name in ("sample_rate_hz", "hop_samples", "num_bands", "width", "intermediate_size", "kernel_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be at least 1")
        for name in ("num_encoder_blocks", "num_decoder_blocks", "latent_size", "num_codebooks", "codebook_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be at least 1")
        if self.window_samples != 4 * self.hop_samples:
            raise ConfigError(
                f"window_samples is {self.window_samples!r}; it must be 4 x hop_samples, {4 * self.hop_samples}"
            )
        if self.synthesis_frames < 1 or self.hop_samples % self.synthesis_frames:
            raise ConfigError(
                f"synthesis_frames is {self.synthesis_frames!r}; it must divide hop_samples, {self.hop_samples}"
            )
        if not 0 <= self.lowest_band_hz < self.sample_rate_hz / 2:
            raise ConfigError(f"lowest_band_hz is {self.lowest_band_hz!r}; it must be below half the sample rate")

    @property
    def num_bins(self) -> int:
        """Frequency bins of an analysis window: DC to Nyquist."""
        return self.window_samples // 2 + 1

    @property
    def synthesis_hop_samples(self) -> int:
        return self.hop_samples // self.synthesis_frames

    @property
    def synthesis_window_samples(self) -> int:
        return self.window_samples // self.synthesis_frames

    @property
    def num_synthesis_bins(self) -> int:
        """Frequency bins of a synthesis window: DC to Nyquist."""
        return self.synthesis_window_samples // 2 + 1

    @property
    def frame_rate_hz(self) -> float:
        return self.sample_rate_hz / self.hop_samples
