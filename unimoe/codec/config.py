"""Configurations of the project's codecs, without torch. A codec folder's `config.json` holds exactly these fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unimoe_runtime.errors import ConfigError
from unimoe_runtime.records import JsonRecord


def _require_positive(config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} is {getattr(config, name)!r}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class CodecShape(JsonRecord):
    """What the project's codecs share: the encoder on band energies, the codebooks, a decoder stack at the frame rate.

    A frame is `hop_samples` long. Analysis windows are `window_samples` long, four hops. The decoder computes
    `synthesis_frames` spectra from each frame. Each of them has a window of four shorter hops.
    """

    kind: str = ""
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
        kind = type(self).kind  # the class's default
        if self.kind != kind:
            raise ConfigError(f"kind is {self.kind!r}; it must be {kind!r}")
        _require_positive(self, "sample_rate_hz", "hop_samples", "num_bands", "width", "intermediate_size")
        _require_positive(self, "kernel_size", "num_encoder_blocks", "num_decoder_blocks", "latent_size")
        _require_positive(self, "num_codebooks", "codebook_size")
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
        """Frequency bins of an analysis window, from DC to the Nyquist frequency."""
        return self.window_samples // 2 + 1

    @property
    def synthesis_hop_samples(self) -> int:
        return self.hop_samples // self.synthesis_frames

    @property
    def synthesis_window_samples(self) -> int:
        return self.window_samples // self.synthesis_frames

    @property
    def num_synthesis_bins(self) -> int:
        """Frequency bins of a synthesis window, from DC to the Nyquist frequency."""
        return self.synthesis_window_samples // 2 + 1

    @property
    def frame_rate_hz(self) -> float:
        return self.sample_rate_hz / self.hop_samples


@dataclass(frozen=True, kw_only=True)
class ConvNeXtCodecConfig(CodecShape):
    """Shape of a causal ConvNeXt codec (`unimoe.codec.convnext` has the architecture)."""

    kind: Literal["convnext"] = "convnext"


@dataclass(frozen=True, kw_only=True)
class HarmonicCodecConfig(CodecShape):
    """Shape of a codec whose decoder drives a harmonic oscillator (`unimoe.codec.harmonic` has the architecture).

    The inner stack works at the rate of the synthesis frames. Pitch `p` is `lowest_pitch_hz` x 2^(p /
    `pitches_per_octave`). `noise_frames`: length of the table of noise phases, in synthesis frames. Without
    `oscillator`, the decoder makes all sound from the free spectra and the noise.
    """

    kind: Literal["harmonic"] = "harmonic"
    sample_rate_hz: int = 24000
    hop_samples: int = 480
    window_samples: int = 1920
    num_decoder_blocks: int = 4
    synthesis_frames: int = 3
    inner_width: int = 128
    inner_intermediate_size: int = 384
    num_inner_blocks: int = 3
    lowest_pitch_hz: float = 55.0
    pitches_per_octave: int = 36
    num_pitches: int = 160
    noise_frames: int = 256
    oscillator: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self, "inner_width", "inner_intermediate_size", "num_inner_blocks", "noise_frames")
        _require_positive(self, "pitches_per_octave", "num_pitches")
        highest_hz = self.lowest_pitch_hz * 2 ** (self.num_pitches / self.pitches_per_octave)
        if not 0 < self.lowest_pitch_hz < highest_hz < self.sample_rate_hz / 4:
            raise ConfigError(
                f"lowest_pitch_hz is {self.lowest_pitch_hz!r}; the pitches must lie between 0 Hz and a quarter of the "
                f"sample rate, and they reach {highest_hz:.0f} Hz"
            )
