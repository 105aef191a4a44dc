"""Small sizes of our codecs for tests."""

from __future__ import annotations

from unimoe.codec.config import ConvNeXtCodecConfig, HarmonicCodecConfig

SMALL = ConvNeXtCodecConfig(
    width=32, intermediate_size=48, num_encoder_blocks=1, num_decoder_blocks=2, latent_size=8, codebook_size=16
)
SMALL_HARMONIC = HarmonicCodecConfig(
    sample_rate_hz=16000, hop_samples=320, window_samples=1280, width=32, intermediate_size=48, num_encoder_blocks=1,
    num_decoder_blocks=2, synthesis_frames=2, inner_width=24, inner_intermediate_size=32, num_inner_blocks=1,
    latent_size=8, codebook_size=16, noise_frames=7,
)  # fmt: skip
