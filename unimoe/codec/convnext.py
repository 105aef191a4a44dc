"""Our codec: band energies -> causal ConvNeXt -> residual VQ -> causal ConvNeXt -> inverse STFT.

After Vocos (Siuzdak 2023, https://arxiv.org/abs/2306.00814): the network works at the frame rate and the inverse
STFT makes the samples. Everything after the codes is causal, so that decoding streams with an explicit state.

Shapes: B rows, L samples, T frames, N window, F bins, M bands, C width, I intermediate, D latent, K codebooks,
V codes, P left context (kernel_size - 1), H hop, J synthesis frames of a frame, h = H / J, n = N / J, f = n / 2 + 1.

Windows.  hann_N[i] = 0.5 - 0.5 cos(2 pi i / N), N = 4 H. Analysis window t covers samples t H ... t H + N - 1: the
          encoder looks 3 hops ahead of its frame. Synthesis window s = t J + j of frame t covers samples
          s h ... s h + n - 1: the decoder needs nothing ahead.
Encoder.  pcm_BL (zeros appended: up to a multiple of H, then N - H) -> frames_BTN x hann -> |rfft|_BTF
          -> @ encoder.bands.weight [F, M] -> log(max(., band_floor)) -> embed -> blocks -> norm -> project:
          encoder.embed.{weight [C, M, P+1], bias}   causal Conv1d, P zeros on the left
          encoder.embed_norm.{weight, bias}          LayerNorm over C
          encoder.blocks.N.*                         as below
          encoder.norm.{weight, bias}                LayerNorm over C
          encoder.project.{weight [D, C], bias}      Linear
Codes.    codebooks.weight [K, V, D]; codebook k takes argmin_v |c_v|^2 - 2 r.c_v of the residual r.
Decoder.  latent_BTD = sum over k of codebooks.weight[k, codes[:, k]] -> embed -> embed_norm -> blocks -> norm -> head:
          decoder.embed.{weight [C, D, P+1], bias}   causal Conv1d; state `embed_context_BDP`, the last P latents
          decoder.embed_norm, decoder.norm           LayerNorm over C
          decoder.blocks.N.*                         as below; state `block_N_context_BCP`
          decoder.head.{weight [J 2f, C], bias}      Linear: J times f log magnitudes, then f phases
          magnitude = exp(min(log magnitude, max_log_magnitude)); spectrum = magnitude (cos phase + i sin phase)
          frame = irfft(spectrum) x hann_n / 1.5, where irfft divides by n and ignores the imaginary part of DC and
          Nyquist; 1.5 is the sum of hann^2 over four hops. Frames overlap and add: frame s begins at sample s h.
          State `overlap_BS`, S = n - h: what earlier frames add to the samples that are not yet given out.
Block.    y = depthwise(x) (causal Conv1d, weight [C, 1, P+1], bias), y = norm(y) (LayerNorm over C),
          y = expand(y) (Linear C -> I), y = gelu(y) (exact, with erf), y = contract(y) (Linear I -> C),
          x + scale x y (scale [C]). The state of a depthwise convolution is its last P inputs.
All LayerNorms have eps = norm_eps. All states are zero at the start. Decoding T frames gives T H samples: the last
n - h samples of the overlap are dropped.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from unimoe.codec.config import ConvNeXtCodecConfig
from unimoe.codec.quantizer import ResidualQuantizer
from unimoe_runtime.errors import CheckpointError, ConfigError

_OVERLAP_GAIN = 1.5

State = dict[str, Tensor]
"""Streaming state of the decoder, by the names above."""


def band_weights(config: ConvNeXtCodecConfig) -> np.ndarray:
    """Triangular bands [F, M], each with sum 1, evenly spaced on log(1 + f / band_break_hz).

    A lower break than the mel scale's 700 Hz gives finer low bands: melodies need to be told apart by semitones.
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
    """Convolve with `context_BCP` as what came before. Returns as many frames as came in, and the next context."""
    joined = torch.cat([context_BCP, x_BCT], dim=-1)
    return convolution(joined), joined[..., joined.shape[-1] - context_BCP.shape[-1] :]


class Block(nn.Module):
    """One causal ConvNeXt block (Liu et al. 2022) on x_BTC."""

    def __init__(self, config: ConvNeXtCodecConfig, num_blocks: int) -> None:
        super().__init__()
        width = config.width
        self.depthwise = nn.Conv1d(width, width, config.kernel_size, groups=width)
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.expand = nn.Linear(width, config.intermediate_size)
        self.contract = nn.Linear(config.intermediate_size, width)
        self.scale = nn.Parameter(torch.full((width,), 1 / num_blocks))

    def forward(self, x_BTC: Tensor, context_BCP: Tensor) -> tuple[Tensor, Tensor]:
        mixed_BCT, context_BCP = causal_convolution(x_BTC.transpose(1, 2), self.depthwise, context_BCP)
        y_BTC = self.contract(F.gelu(self.expand(self.norm(mixed_BCT.transpose(1, 2)))))
        return x_BTC + self.scale * y_BTC, context_BCP


class Stack(nn.Module):
    """Embedding convolution, blocks and a last norm: x_BCT of any channel count to y_BTC."""

    def __init__(self, config: ConvNeXtCodecConfig, in_channels: int, num_blocks: int) -> None:
        super().__init__()
        self.embed = nn.Conv1d(in_channels, config.width, config.kernel_size)
        self.embed_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.blocks = nn.ModuleList(Block(config, num_blocks) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)

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
    """Magnitudes of bins to those of bands; the matrix is frozen but saved, so that a reader need not derive it."""

    weight: Tensor

    def __init__(self, config: ConvNeXtCodecConfig) -> None:
        super().__init__()
        self.register_buffer("weight", torch.from_numpy(band_weights(config)))

    def forward(self, magnitude_BTF: Tensor) -> Tensor:
        return magnitude_BTF @ self.weight


class Encoder(Stack):
    """pcm_BL to latent_BTD."""

    window: Tensor

    def __init__(self, config: ConvNeXtCodecConfig) -> None:
        super().__init__(config, config.num_bands, config.num_encoder_blocks)
        self.config = config
        self.project = nn.Linear(config.width, config.latent_size)
        self.bands = Bands(config)
        self.register_buffer("window", torch.hann_window(config.window_samples), persistent=False)

    def features(self, pcm_BL: Tensor) -> Tensor:
        """Log band energies, bands_BTM; T is the number of hops, the last one filled up with silence."""
        config = self.config
        missing = -pcm_BL.shape[-1] % config.hop_samples
        padded_BL = F.pad(pcm_BL, (0, missing + config.window_samples - config.hop_samples))
        frames_BTN = padded_BL.unfold(-1, config.window_samples, config.hop_samples)
        magnitude_BTF = torch.fft.rfft(frames_BTN * self.window).abs()
        bands_BTM: Tensor = self.bands(magnitude_BTF)
        return bands_BTM.clamp(min=config.band_floor).log()

    def encode(self, pcm_BL: Tensor) -> Tensor:
        hidden_BTC, _ = self(self.features(pcm_BL).transpose(1, 2), self.initial_state(len(pcm_BL)))
        latent_BTD: Tensor = self.project(hidden_BTC)
        return latent_BTD


class Decoder(Stack):
    """latent_BTD and the state to pcm_BL and the next state."""

    window: Tensor

    def __init__(self, config: ConvNeXtCodecConfig) -> None:
        super().__init__(config, config.latent_size, config.num_decoder_blocks)
        self.config = config
        self.head = nn.Linear(config.width, config.synthesis_frames * 2 * config.num_synthesis_bins)
        hann = torch.hann_window(config.synthesis_window_samples)
        self.register_buffer("window", hann / _OVERLAP_GAIN, persistent=False)

    def initial_state(self, num_rows: int) -> State:
        overlap = self.config.synthesis_window_samples - self.config.synthesis_hop_samples
        return {
            **super().initial_state(num_rows),
            "overlap_BS": self.embed.weight.new_zeros(num_rows, overlap),
        }

    def decode(self, latent_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        config = self.config
        hidden_BTC, new = self(latent_BTD.transpose(1, 2), state)
        # From here on T counts synthesis frames, and H, N and F are a synthesis frame's.
        spectra_BTG = self.head(hidden_BTC).reshape(len(hidden_BTC), -1, 2 * config.num_synthesis_bins)
        log_magnitude_BTF, phase_BTF = spectra_BTG.chunk(2, dim=-1)
        magnitude_BTF = log_magnitude_BTF.clamp(max=config.max_log_magnitude).exp()
        waves_BTN = torch.fft.irfft(torch.polar(magnitude_BTF, phase_BTF), config.synthesis_window_samples)
        hop, num_frames = config.synthesis_hop_samples, waves_BTN.shape[1]
        # Quarter q of frame t belongs to hop t + q.
        quarters_BTQH = (waves_BTN * self.window).reshape(*waves_BTN.shape[:2], -1, hop)
        hops_BTH = F.pad(state["overlap_BS"].reshape(len(waves_BTN), -1, hop), (0, 0, 0, num_frames))
        for q in range(quarters_BTQH.shape[2]):
            hops_BTH = hops_BTH + F.pad(quarters_BTQH[:, :, q], (0, 0, q, 3 - q))
        new["overlap_BS"] = hops_BTH[:, num_frames:].flatten(1)
        return hops_BTH[:, :num_frames].flatten(1), new


class ConvNeXtCodec(nn.Module):
    """Encoder, codebooks and decoder; see the top of the module for the architecture."""

    def __init__(self, config: ConvNeXtCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.codebooks = ResidualQuantizer(config.num_codebooks, config.codebook_size, config.latent_size)
        self.decoder = Decoder(config)

    @property
    def sample_rate_hz(self) -> int:
        return self.config.sample_rate_hz

    @property
    def hop_samples(self) -> int:
        return self.config.hop_samples

    @property
    def num_codebooks(self) -> int:
        return self.config.num_codebooks

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    @torch.no_grad()
    def encode(self, pcm_BL: Tensor) -> Tensor:
        """Codes codes_BKT (int64) of mono audio, T = ceil(L / hop_samples)."""
        return self.codebooks.encode(self.encoder.encode(pcm_BL))

    @torch.no_grad()
    def decode(self, codes_BKT: Tensor) -> Tensor:
        """Audio pcm_BL, L = T x hop_samples."""
        return self.decode_step(codes_BKT, self.initial_state(len(codes_BKT)))[0]

    def initial_state(self, num_rows: int) -> State:
        """The decoder's state before the first frame: all zeros."""
        return self.decoder.initial_state(num_rows)

    @torch.no_grad()
    def decode_step(self, codes_BKT: Tensor, state: State) -> tuple[Tensor, State]:
        """Decode the next T frames. Returns their T x hop_samples samples and the state to go on with."""
        return self.decoder.decode(self.codebooks.decode(codes_BKT), state)

    def with_codebooks(self, count: int) -> ConvNeXtCodec:
        """This codec with its first codebooks alone: fewer tokens a frame, a little less detail.

        Raises ConfigError where it has not as many.
        """
        if not 0 < count <= self.num_codebooks:
            raise ConfigError(f"the codec has {self.num_codebooks} codebooks; {count} of them cannot be kept")
        kept = ConvNeXtCodec(replace(self.config, num_codebooks=count))
        tensors = self.state_dict()
        kept.load_state_dict({**tensors, "codebooks.weight": tensors["codebooks.weight"][:count]})
        return kept.eval().requires_grad_(False)

    def save(self, folder: str | Path, dtype: torch.dtype = torch.bfloat16) -> None:
        """Write config.json and model.safetensors into `folder`, each at once.

        Files that hold that already are left alone: other processes may be reading them.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in self.state_dict().items()}
        config = json.dumps(self.config.to_dict(), indent=2) + "\n"
        for name, content in (("model.safetensors", save(tensors)), ("config.json", config.encode())):
            path = folder / name
            if path.exists() and path.read_bytes() == content:
                continue
            partial = folder / f"{name}.partial"
            partial.write_bytes(content)
            partial.replace(path)

    @classmethod
    def load(cls, folder: str | Path) -> ConvNeXtCodec:
        """Read a codec in float32, ready for inference. Raises CheckpointError or ConfigError."""
        folder = Path(folder)
        try:
            config = ConvNeXtCodecConfig.from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
            tensors = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
        except (OSError, json.JSONDecodeError, SafetensorError) as error:
            raise CheckpointError(f"the codec in {folder} cannot be read ({error})") from None
        codec = cls(config)
        try:
            codec.load_state_dict(tensors)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{folder / 'model.safetensors'} does not fit its config.json: {reason}") from None
        return codec.eval().requires_grad_(False)
