"""The ConvNeXt codec: band energies -> causal ConvNeXt -> residual VQ -> causal ConvNeXt -> inverse STFT.

It follows Vocos (Siuzdak 2023, https://arxiv.org/abs/2306.00814): the network works at the frame rate and the inverse
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
          State `overlap_BS`, S = n - h: the sum of earlier frames over the samples that are not yet output.
Block.    y = depthwise(x) (causal Conv1d, weight [C, 1, P+1], bias), y = norm(y) (LayerNorm over C),
          y = expand(y) (Linear C -> I), y = gelu(y) (exact, with erf), y = contract(y) (Linear I -> C),
          x + scale x y (scale [C]). The state of a depthwise convolution is its last P inputs.
All LayerNorms have eps = norm_eps. All states are zero at the start. Decoding T frames gives T H samples: the last
n - h samples of the overlap are dropped.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unimoe.codec.common import CodecDecoder, TrainedCodec
from unimoe.codec.config import ConvNeXtCodecConfig
from unimoe.codec.layers import State, Synthesis


class Decoder(CodecDecoder):
    """latent_BTD and the state to pcm_BL and the next state."""

    def __init__(self, config: ConvNeXtCodecConfig) -> None:
        super().__init__(config)
        self.config = config
        self.head = nn.Linear(config.width, config.synthesis_frames * 2 * config.num_synthesis_bins)
        self.synthesis = Synthesis(config)

    def initial_state(self, num_rows: int) -> State:
        return {
            **super().initial_state(num_rows),
            "overlap_BS": self.embed.weight.new_zeros(num_rows, 3 * self.config.synthesis_hop_samples),
        }

    def decode(self, latent_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        config = self.config
        hidden_BTC, new = self(latent_BTD.transpose(1, 2), state)
        # From here on T counts synthesis frames, and F the bins of a synthesis frame.
        spectra_BTG = self.head(hidden_BTC).reshape(len(hidden_BTC), -1, 2 * config.num_synthesis_bins)
        log_magnitude_BTF, phase_BTF = spectra_BTG.chunk(2, dim=-1)
        magnitude_BTF = log_magnitude_BTF.clamp(max=config.max_log_magnitude).exp()
        pcm_BL, new["overlap_BS"] = self.synthesis(torch.polar(magnitude_BTF, phase_BTF), state["overlap_BS"])
        return pcm_BL, new


class ConvNeXtCodec(TrainedCodec[ConvNeXtCodecConfig]):
    """Encoder, codebooks and decoder; see the top of the module for the architecture."""

    config_type = ConvNeXtCodecConfig
    decoder: Decoder

    def make_decoder(self, config: ConvNeXtCodecConfig) -> Decoder:
        return Decoder(config)
