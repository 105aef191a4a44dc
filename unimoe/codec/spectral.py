"""The distance that the codec is trained on: spectra at several resolutions, on linear and on band frequency axes.

Shapes: B rows, L samples, T frames, F bins, M bands.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unimoe.codec.config import ConvNeXtCodecConfig
from unimoe.codec.convnext import band_weights

RESOLUTIONS = ((512, 160, 48), (1024, 320, 80), (2048, 512, 120))
"""Window and hop in samples, number of bands."""

_FLOOR = 1e-4  # of a full-scale sine's 0.5: what is 74 dB below need not be matched


class SpectralDistance(nn.Module):
    """Sum over resolutions of: L1 of log bands + 0.5 x L1 of log magnitudes + relative L2 of magnitudes.

    Long windows tell neighbouring semitones and partials apart, short ones place onsets. Phase takes no part.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        super().__init__()
        for window, _, num_bands in RESOLUTIONS:
            config = ConvNeXtCodecConfig(
                sample_rate_hz=sample_rate_hz,
                hop_samples=window // 4,
                window_samples=window,
                num_bands=num_bands,
                band_break_hz=700.0,
                lowest_band_hz=0.0,
            )
            hann = torch.hann_window(window)
            self.register_buffer(f"bands_{window}", torch.from_numpy(band_weights(config)))
            self.register_buffer(f"window_{window}", hann / hann.sum())

    def forward(self, made_BL: Tensor, real_BL: Tensor) -> Tensor:
        """Distance between what the codec made and what it was given, a scalar."""
        total = made_BL.new_zeros(())
        for size, hop, _ in RESOLUTIONS:
            window, bands = self.get_buffer(f"window_{size}"), self.get_buffer(f"bands_{size}")
            # Magnitudes such that a full-scale sine gives 0.5.
            made_BTF, real_BTF = (
                torch.fft.rfft(pcm_BL.unfold(-1, size, hop) * window).abs() for pcm_BL in (made_BL, real_BL)
            )
            total = total + 0.5 * _log_distance(made_BTF, real_BTF)
            total = total + _log_distance(made_BTF @ bands, real_BTF @ bands)
            total = total + torch.linalg.vector_norm(made_BTF - real_BTF) / torch.linalg.vector_norm(real_BTF)
        return total / len(RESOLUTIONS)


def _log_distance(made: Tensor, real: Tensor) -> Tensor:
    return (made.clamp(min=_FLOOR).log() - real.clamp(min=_FLOOR).log()).abs().mean()
