"""Layers of the project's codecs: causal ConvNeXt blocks with explicit state, and the encoder on band energies.

`unimoe.codec.convnext` describes the encoder and the block, with their tensors.

Shapes: B rows, L samples, T frames, N window, F bins, M bands, C width, D latent, P left context (kernel_size - 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unimoe.codec.config import CodecShape

OVERLAP_GAIN = 1.5  # sum of the squared Hann window over four hops

State = dict[str, Tensor]
"""Streaming state of a decoder, by name."""


def band_weights(config: CodecShape) -> np.ndarray:
    """Triangular bands [F, M], each with sum 1, evenly spaced on log(1 + f / band_break_hz).

    A break below the mel scale's 700 Hz gives finer low bands, because melodies differ by semitones.
    """
    low, high = (np.log1p(f / config.band_break_hz) for f in (config.lowest_band_hz, config.sample_rate_hz / 2))
    edges_hz = np.expm1(np.linspace(low, high, config.num_bands + 2)) * config.band_break_hz
    bins_hz_F = np.arange(config.num_bins) * config.sample_rate_hz / config.window_samples
    left, centre, right = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising_FM = (bins_hz_F[:, None] - left) / (centre - left)
    falling_FM = (right - bins_hz_F[:, None]) / (right - centre)
    weight_FM = np.maximum(0, np.minimum(rising_FM, falling_FM))
    return np.asarray(weight_FM / weight_FM.sum(axis=0), np.float32)


def causal_convolution(x_BCT: Tensor, convolution: nn.Conv1d, context_BCP: Tensor) -> tuple[Tensor, Tensor]:
    """Convolve, with `context_BCP` as preceding frames. Returns as many frames as the input, and the next context."""
    joined = torch.cat([context_BCP, x_BCT], dim=-1)
    return convolution(joined), joined[..., joined.shape[-1] - context_BCP.shape[-1] :]


@dataclass(frozen=True, kw_only=True)
class BlockShape:
    """Sizes of a stack's blocks."""

    width: int
    intermediate_size: int
    kernel_size: int
    norm_eps: float

    @classmethod
    def of(cls, config: CodecShape) -> BlockShape:
        """The shape of the blocks at the frame rate."""
        return cls(
            width=config.width,
            intermediate_size=config.intermediate_size,
            kernel_size=config.kernel_size,
            norm_eps=config.norm_eps,
        )


class Block(nn.Module):
    """One causal ConvNeXt block (Liu et al. 2022) on x_BTC."""

    def __init__(self, shape: BlockShape, num_blocks: int) -> None:
        super().__init__()
        width = shape.width
        self.depthwise = nn.Conv1d(width, width, shape.kernel_size, groups=width)
        self.norm = nn.LayerNorm(width, eps=shape.norm_eps)
        self.expand = nn.Linear(width, shape.intermediate_size)
        self.contract = nn.Linear(shape.intermediate_size, width)
        self.scale = nn.Parameter(torch.full((width,), 1 / num_blocks))

    def forward(self, x_BTC: Tensor, context_BCP: Tensor) -> tuple[Tensor, Tensor]:
        mixed_BCT, context_BCP = causal_convolution(x_BTC.transpose(1, 2), self.depthwise, context_BCP)
        y_BTC = self.contract(F.gelu(self.expand(self.norm(mixed_BCT.transpose(1, 2)))))
        return x_BTC + self.scale * y_BTC, context_BCP


class Stack(nn.Module):
    """Embedding convolution, blocks and a final norm: x_BCT with any number of channels to y_BTC."""

    def __init__(self, shape: BlockShape, in_channels: int, num_blocks: int) -> None:
        super().__init__()
        self.embed = nn.Conv1d(in_channels, shape.width, shape.kernel_size)
        self.embed_norm = nn.LayerNorm(shape.width, eps=shape.norm_eps)
        self.blocks = nn.ModuleList(Block(shape, num_blocks) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(shape.width, eps=shape.norm_eps)

    def initial_state(self, num_rows: int) -> State:
        past = self.embed.kernel_size[0] - 1
        zeros = self.embed.weight.new_zeros
        state = {"embed_context_BDP": zeros(num_rows, self.embed.in_channels, past)}
        for n in range(len(self.blocks)):
            state[f"block_{n}_context_BCP"] = zeros(num_rows, self.embed.out_channels, past)
        return state

    def forward(self, x_BCT: Tensor, state: State) -> tuple[Tensor, State]:
        new: State = {}
        embedded_BCT, new["embed_context_BDP"] = causal_convolution(x_BCT, self.embed, state["embed_context_BDP"])
        y_BTC = self.embed_norm(embedded_BCT.transpose(1, 2))
        for n, block in enumerate(self.blocks):
            name = f"block_{n}_context_BCP"
            y_BTC, new[name] = block(y_BTC, state[name])
        return self.norm(y_BTC), new


class Bands(nn.Module):
    """Magnitudes of bins to those of bands. Frozen but saved, so that a reader need not derive the matrix."""

    weight: Tensor

    def __init__(self, config: CodecShape) -> None:
        super().__init__()
        self.register_buffer("weight", torch.from_numpy(band_weights(config)))

    def forward(self, magnitude_BTF: Tensor) -> Tensor:
        return magnitude_BTF @ self.weight


class Encoder(Stack):
    """pcm_BL to latent_BTD."""

    window: Tensor

    def __init__(self, config: CodecShape) -> None:
        super().__init__(BlockShape.of(config), config.num_bands, config.num_encoder_blocks)
        self.config = config
        self.project = nn.Linear(config.width, config.latent_size)
        self.bands = Bands(config)
        self.register_buffer("window", torch.hann_window(config.window_samples), persistent=False)

    def features(self, pcm_BL: Tensor) -> Tensor:
        """Log band energies, bands_BTM. T is the number of hops. Silence fills the last one."""
        config = self.config
        missing = -pcm_BL.shape[-1] % config.hop_samples
        padded_BL = F.pad(pcm_BL, (0, missing + config.window_samples - config.hop_samples))
        frames_BTN = padded_BL.unfold(-1, config.window_samples, config.hop_samples)
        magnitude_BTF = torch.fft.rfft(frames_BTN * self.window).abs()
        bands_BTM: Tensor = self.bands(magnitude_BTF)
        return bands_BTM.clamp(min=config.band_floor).log()

    def encode(self, pcm_BL: Tensor) -> Tensor:
        """latent_BTD"""
        return self.encode_features(self.features(pcm_BL))

    def encode_features(self, features_BTM: Tensor) -> Tensor:
        hidden_BTC, _ = self(features_BTM.transpose(1, 2), self.initial_state(len(features_BTM)))
        latent_BTD: Tensor = self.project(hidden_BTC)
        return latent_BTD


class Synthesis(nn.Module):
    """Inverse short-time Fourier transform that streams: spectra_BTF to pcm_BL.

    Synthesis frame s begins at sample s h; its window is four hops. `overlap_BS` is the sum of earlier frames over the
    samples that are not yet complete, S = 3 h.
    """

    window: Tensor

    def __init__(self, config: CodecShape) -> None:
        super().__init__()
        self.hop = config.synthesis_hop_samples
        hann = torch.hann_window(config.synthesis_window_samples)
        self.register_buffer("window", hann / OVERLAP_GAIN, persistent=False)

    def forward(self, spectra_BTF: Tensor, overlap_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Complete samples, and the next overlap."""
        waves_BTN = torch.fft.irfft(spectra_BTF, len(self.window)) * self.window
        hop, num_frames = self.hop, waves_BTN.shape[1]
        # Quarter q of frame t belongs to hop t + q.
        quarters_BTQH = waves_BTN.reshape(*waves_BTN.shape[:2], -1, hop)
        hops_BTH = F.pad(overlap_BS.reshape(len(waves_BTN), -1, hop), (0, 0, 0, num_frames))
        for q in range(quarters_BTQH.shape[2]):
            hops_BTH = hops_BTH + F.pad(quarters_BTQH[:, :, q], (0, 0, q, 3 - q))
        return hops_BTH[:, :num_frames].flatten(1), hops_BTH[:, num_frames:].flatten(1)
