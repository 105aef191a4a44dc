"""Distances that train the codec: spectra at several resolutions, and the correlation of band envelopes.

Shapes: B rows, L samples, T frames, F bins, M bands, G segments, W frames of a segment,
R resolutions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from unimoe.codec.config import ConvNeXtCodecConfig
from unimoe.codec.layers import band_weights
from unimoe.world import RowSum, own_rows

RESOLUTIONS = ((256, 64, 40), (512, 128, 64), (1024, 320, 80), (2048, 512, 120))
"""Window and hop in samples, number of bands."""

_SILENT_ENVELOPE = 1.0  # a full-scale tone that comes and goes has about 500
_FLOOR = 1e-4  # a full-scale sine has 0.5: values 74 dB below it need not match


class SpectralDistance(nn.Module):
    """Sum over resolutions of: L1 of log bands + 0.5 x L1 of log magnitudes + relative L2 of magnitudes.

    Long windows resolve neighbouring semitones and partials, short ones locate onsets. Phase is ignored.
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

    def forward(self, made_BL: Tensor, real_BL: Tensor, row_sum: RowSum = own_rows) -> Tensor:
        """Distance between the codec's output and its input, a scalar over the rows of all processes."""
        sums = []
        for size, hop, num_bands in RESOLUTIONS:
            window, bands = self.get_buffer(f"window_{size}"), self.get_buffer(f"bands_{size}")
            # Magnitudes are scaled so that a full-scale sine gives 0.5.
            made_BTF, real_BTF = (
                torch.fft.rfft(pcm_BL.unfold(-1, size, hop) * window).abs() for pcm_BL in (made_BL, real_BL)
            )
            sums += [
                _log_distance(made_BTF @ bands, real_BTF @ bands) / num_bands,
                _log_distance(made_BTF, real_BTF) / made_BTF.shape[-1],
                (made_BTF - real_BTF).square().sum(),
                real_BTF.square().sum(),
                made_BTF.new_tensor(float(made_BTF[..., 0].numel())),
            ]
        bands_R, bins_R, difference_R, real_R, num_frames_R = row_sum(torch.stack(sums)).view(-1, 5).unbind(-1)
        return ((bands_R + 0.5 * bins_R) / num_frames_R + (difference_R / real_R).sqrt()).mean()


def _log_distance(made: Tensor, real: Tensor) -> Tensor:
    return (made.clamp(min=_FLOOR).log() - real.clamp(min=_FLOOR).log()).abs().sum()


class EnvelopeDistance(nn.Module):
    """1 - mean correlation of the envelopes of third-octave bands, over segments of 0.4 s (shorter audio is one).

    Intelligibility depends on these envelopes. Inconsistent phases destroy them even where each single spectrum is
    right. It is short-time objective intelligibility (Taal et al. 2011) without its clipping, on the same bands and
    nearly the same windows. STOI alone must therefore not judge a codec that was trained on it.
    """

    num_bands, lowest_hz = 15, 150.0
    segment_frames, segment_hop = 30, 10

    def __init__(self, sample_rate_hz: int) -> None:
        super().__init__()
        self.window_samples = sample_rate_hz // 40
        self.num_points = 1 << (self.window_samples - 1).bit_length()
        bins_hz_F = np.fft.rfftfreq(self.num_points, 1 / sample_rate_hz)
        centres_hz = self.lowest_hz * 2 ** (np.arange(self.num_bands) / 3)
        above_FM = bins_hz_F[:, None] >= centres_hz * 2 ** (-1 / 6)
        below_FM = bins_hz_F[:, None] < centres_hz * 2 ** (1 / 6)
        self.bands: Tensor
        self.window: Tensor
        self.register_buffer("bands", torch.from_numpy((above_FM & below_FM).astype(np.float32)))
        self.register_buffer("window", torch.hann_window(self.window_samples))

    def forward(self, made_BL: Tensor, real_BL: Tensor, row_sum: RowSum = own_rows) -> Tensor:
        """Distance between the codec's output and its input, a scalar in 0 … 2 over the rows of all processes."""
        made_BGMW, real_BGMW = (self._segments(pcm_BL) for pcm_BL in (made_BL, real_BL))
        made_norm_BGM, real_norm_BGM = (torch.linalg.vector_norm(each, dim=-1) for each in (made_BGMW, real_BGMW))
        correlation_BGM = (made_BGMW * real_BGMW).sum(-1) / (made_norm_BGM * real_norm_BGM + 1e-2)
        heard_BGM = (real_norm_BGM > _SILENT_ENVELOPE).to(correlation_BGM.dtype)  # a silent band has no envelope
        likeness, num_heard = row_sum(torch.stack([(correlation_BGM * heard_BGM).sum(), heard_BGM.sum()]))
        return 1 - likeness / num_heard.clamp(min=1)

    def _segments(self, pcm_BL: Tensor) -> Tensor:
        """Envelopes of the bands, with the mean of each segment of each band removed."""
        frames_BTN = pcm_BL.unfold(-1, self.window_samples, self.window_samples // 2) * self.window
        power_BTF = torch.fft.rfft(frames_BTN, self.num_points).abs().square()
        envelope_BTM = (power_BTF @ self.bands + 1e-6).sqrt()
        segments_BGMW: Tensor = envelope_BTM.unfold(
            1, min(self.segment_frames, envelope_BTM.shape[1]), self.segment_hop
        )
        return segments_BGMW - segments_BGMW.mean(-1, keepdim=True)
