"""Pitch of clips as a training target: McLeod and Wyvill's normalised square difference, for whole batches.

P. McLeod, G. Wyvill, "A smarter way to find pitch", ICMC 2005.

Shapes: B rows, L samples, T frames, N window, G lags.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_DECIMATION = 2
_FIRST_NULL_HZ = 2000  # of the low-pass filter: a sharp pulse between two samples would not match the next one
_WINDOW_S = 0.06
_KEY_SHARE = 0.85  # of the highest maximum; the first maximum above it is the period
_SILENT = 1e-4  # mean square of a frame


def track_pitch(
    pcm_BL: Tensor, sample_rate_hz: int, centres_T: Tensor, *, lowest_hz: float, highest_hz: float
) -> tuple[Tensor, Tensor]:
    """Pitch in Hz and clarity (0 … 1, 1 is periodic) around the samples `centres_T`: pitch_BT, clarity_BT.

    Nearly silent frames have clarity 0.
    """
    rate_hz = sample_rate_hz / _DECIMATION
    smoothed = round(sample_rate_hz / _FIRST_NULL_HZ)
    reduced_BL = F.avg_pool1d(pcm_BL[:, None], smoothed, _DECIMATION, smoothed // 2)[:, 0]
    window = round(_WINDOW_S * rate_hz)
    padded_BL = F.pad(reduced_BL, (window // 2, window))
    starts_T = (centres_T // _DECIMATION).clamp(0, reduced_BL.shape[1])
    frames_BTN = padded_BL[:, starts_T[:, None] + torch.arange(window, device=pcm_BL.device)]
    frames_BTN = frames_BTN - frames_BTN.mean(-1, keepdim=True)
    num_lags = min(window // 2 + 1, round(rate_hz / lowest_hz) + 2)
    similarity_BTG, power_BT = _normalised_square_difference(frames_BTN, num_lags)
    return _pick(similarity_BTG, power_BT, rate_hz, round(rate_hz / highest_hz))


def _normalised_square_difference(frames_BTN: Tensor, num_lags: int) -> tuple[Tensor, Tensor]:
    """Similarity of a frame to itself at each lag: 1 equal, -1 opposite. Also the mean square."""
    size = frames_BTN.shape[-1]
    spectrum = torch.fft.rfft(frames_BTN, 2 * size)
    correlation_BTG = torch.fft.irfft(spectrum.abs().square(), 2 * size)[..., :num_lags]
    energy = F.pad(frames_BTN.square().cumsum(-1), (1, 0))
    lags_G = torch.arange(num_lags, device=frames_BTN.device)
    both_BTG = energy[..., size - lags_G] + energy[..., -1:] - energy[..., lags_G]
    return 2 * correlation_BTG / both_BTG.clamp(min=1e-9), energy[..., -1] / size


def _pick(similarity_BTG: Tensor, power_BT: Tensor, rate_hz: float, least_lag: int) -> tuple[Tensor, Tensor]:
    """The first high maximum after the first negative value, refined by a parabola."""
    inner = similarity_BTG[..., 1:-1]
    left, right = similarity_BTG[..., :-2], similarity_BTG[..., 2:]
    lags_G = torch.arange(1, similarity_BTG.shape[-1] - 1, device=similarity_BTG.device)
    passed = (similarity_BTG[..., 1:-1] < 0).cumsum(-1) > 0
    is_peak = (inner >= left) & (inner > right) & passed & (lags_G >= least_lag)
    height = torch.where(is_peak, inner, -1.0)
    highest_BT1 = height.amax(-1, keepdim=True)
    key = is_peak & (height >= _KEY_SHARE * highest_BT1)
    first_BT1 = key.float().argmax(-1, keepdim=True)
    a, b, c = (x.gather(-1, first_BT1)[..., 0] for x in (left, inner, right))
    bend = (a - 2 * b + c).clamp(max=-1e-6)
    lag_BT = lags_G[first_BT1[..., 0]] + (0.5 * (a - c) / bend).clamp(-1, 1)
    heard_BT = (highest_BT1[..., 0] > 0) & (power_BT > _SILENT)
    return rate_hz / lag_BT, torch.where(heard_BT, b.clamp(0, 1), 0.0)
