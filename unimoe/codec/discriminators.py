"""Discriminators that distinguish a codec's audio from recordings: by periods of samples, and by spectra.

After HiFi-GAN (Kong et al. 2020, https://arxiv.org/abs/2010.05646) and EnCodec (Défossez et al. 2022,
https://arxiv.org/abs/2210.13438).

Shapes: B rows, L samples, H channels, T frames, F bins, P samples of a period, N periods.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

PERIODS = (2, 3, 5, 7, 11)
RESOLUTIONS = ((512, 128), (1024, 256))
"""Window and hop of the spectra, in samples."""
_SLOPE = 0.1


class PeriodDiscriminator(nn.Module):
    """Reads every `period`-th sample: pcm_BL to scores and the features before them."""

    def __init__(self, period: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.period = period
        sizes = [1, *channels]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(sizes[n], sizes[n + 1], (5, 1), (3 if n < len(channels) - 1 else 1, 1), (2, 0)))
            for n in range(len(channels))
        )
        self.score = weight_norm(nn.Conv2d(sizes[-1], 1, (3, 1), 1, (1, 0)))

    def forward(self, pcm_BL: Tensor) -> tuple[Tensor, list[Tensor]]:
        padded_BL = F.pad(pcm_BL, (0, -pcm_BL.shape[-1] % self.period))
        x_BHNP = padded_BL.reshape(len(pcm_BL), 1, -1, self.period)
        return _run(self.layers, self.score, x_BHNP)


class SpectralDiscriminator(nn.Module):
    """Reads the complex spectra of one resolution: pcm_BL to scores and the features before them."""

    window: Tensor

    def __init__(self, window_samples: int, hop_samples: int, channels: int) -> None:
        super().__init__()
        self.hop_samples = hop_samples
        hann = torch.hann_window(window_samples)
        self.register_buffer("window", hann / hann.square().sum().sqrt())
        layers = [nn.Conv2d(2, channels, (3, 9), 1, (1, 4))]
        layers += [nn.Conv2d(channels, channels, (3, 9), (1, 2), (d, 4), (d, 1)) for d in (1, 2, 4)]
        layers += [nn.Conv2d(channels, channels, 3, 1, 1)]
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)
        self.score = weight_norm(nn.Conv2d(channels, 1, 3, 1, 1))

    def forward(self, pcm_BL: Tensor) -> tuple[Tensor, list[Tensor]]:
        frames_BTN = pcm_BL.unfold(-1, len(self.window), self.hop_samples) * self.window
        spectrum_BTF = torch.fft.rfft(frames_BTN)
        return _run(self.layers, self.score, torch.stack([spectrum_BTF.real, spectrum_BTF.imag], dim=1))


def _run(layers: nn.ModuleList, score: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(x), _SLOPE)
        features.append(x)
    return score(x), features


class Discriminators(nn.Module):
    """All discriminators. Each gives scores and features."""

    def __init__(self, period_channels: Sequence[int], spectral_channels: int) -> None:
        super().__init__()
        by_period = [PeriodDiscriminator(period, period_channels) for period in PERIODS]
        by_spectrum = [SpectralDiscriminator(window, hop, spectral_channels) for window, hop in RESOLUTIONS]
        self.all = nn.ModuleList([*by_period, *by_spectrum])

    def forward(self, pcm_BL: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        return [each(pcm_BL) for each in self.all]


def discriminator_loss(real: list[tuple[Tensor, list[Tensor]]], made: list[tuple[Tensor, list[Tensor]]]) -> Tensor:
    """Hinge loss of distinguishing both, averaged over the discriminators."""
    losses = [F.relu(1 - r).mean() + F.relu(1 + m).mean() for (r, _), (m, _) in zip(real, made, strict=True)]
    return torch.stack(losses).mean()


def generator_losses(
    real: list[tuple[Tensor, list[Tensor]]], made: list[tuple[Tensor, list[Tensor]]]
) -> tuple[Tensor, Tensor]:
    """Losses of the codec: the negated score of its output, and the relative distance of the features."""
    score = torch.stack([F.relu(1 - m).mean() for m, _ in made]).mean()
    distances = [
        (m - r.detach()).abs().mean() / r.detach().abs().mean().clamp(min=1e-6)
        for (_, features), (_, others) in zip(real, made, strict=True)
        for r, m in zip(features, others, strict=True)
    ]
    return score, torch.stack(distances).mean()
