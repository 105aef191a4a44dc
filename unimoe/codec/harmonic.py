"""Our second codec: a decoder that carries a phase from frame to frame, by an oscillator at the pitch that it predicts.

Encoder, codebooks and blocks are those of `unimoe.codec.convnext`. A decoder without recurrence knows no phase but that
of its frame, so a voice's harmonics break from frame to frame. Here the pitch drives a running phase, as in
source-filter vocoders (Wang et al. 2019, https://arxiv.org/abs/1904.12088), and the network filters what the oscillator
gives, in short spectra. Free spectra with phases of their own make what has no single pitch: chords and onsets.

Shapes: B rows, T frames, D latent, C width, J synthesis frames of a frame; of the inner stack: S = T J synthesis
frames, c inner width, h = H / J hop, n = 4 h window, f = n / 2 + 1 bins, P pitch classes, R noise frames.

Decoder.  latent_BTD -> stack at the frame rate (state names as in the first codec) -> hidden_BTC
          decoder.upsample.{weight [J c, C], bias}    Linear; hidden_BTC -> inner_BSc, J rows of each frame
          decoder.inner.*                             a stack as the outer one, embed over c; state `inner_` + its names
          decoder.pitch.{weight [P, c], bias}         Linear: logits of the pitch of hop s + 3, the newest of the window
          decoder.head.{weight [5 f, c], bias}        Linear: log magnitudes of filter, noise and free spectrum, then
                                                      phases of filter and free spectrum; magnitudes are
                                                      exp(min(log magnitude, max_log_magnitude))
Source.   Fine pitch i = 8 x likeliest class + round(8 x mean distance from it of the classes within 3 of it, weighted
          by exp(logit)). `unimoe_runtime.codec.oscillator` gives each its phase steps. State `phase_B1` (int64).
          Harmonics have amplitude 1. Window s covers source samples s h ... s h + n - 1, of which state `source_BS`
          has the first 3 h. source_BSf = rfft(window x hann_n) x 4 / n, so that a steady harmonic has magnitude 1.
Noise.    decoder.noise.phase [R, f]: row (state `noise_B1` + s) mod R, radians.
Output.   spectrum = filter e^(i filter phase) source + noise e^(i noise phase) + free e^(i free phase)
          -> inverse STFT as in the first codec, state `overlap_BS`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unimoe.codec.common import CodecDecoder, TrainedCodec
from unimoe.codec.config import HarmonicCodecConfig
from unimoe.codec.layers import BlockShape, Stack, State, Synthesis
from unimoe.codec.oscillator import NoisePhases, Oscillator, fine_pitch
from unimoe.codec.pitch import track_pitch
from unimoe_runtime.codec.oscillator import FINE_PITCHES

_CLEAR = 0.6  # clarity from which a pitch is a target
_PITCH_WEIGHT = 0.1
_TARGET_DEVIATION = 0.8  # of the soft target, in pitch classes
_INNER = "inner_"


class Decoder(CodecDecoder):
    """latent_BTD and the state to pcm_BL and the next state."""

    def __init__(self, config: HarmonicCodecConfig) -> None:
        super().__init__(config)
        self.config = config
        width = config.inner_width
        self.upsample = nn.Linear(config.width, config.synthesis_frames * width)
        inner = BlockShape(
            width=width,
            intermediate_size=config.inner_intermediate_size,
            kernel_size=config.kernel_size,
            norm_eps=config.norm_eps,
        )
        self.inner = Stack(inner, width, config.num_inner_blocks)
        self.pitch = nn.Linear(width, config.num_pitches)
        self.head = nn.Linear(width, 5 * config.num_synthesis_bins)
        with torch.no_grad():
            # Begin quietly: filter, noise, free spectrum; then the phases.
            start = torch.tensor([0.0 if config.oscillator else -20.0, -1.5, -2.0, 0.0, 0.0])
            self.head.bias.copy_(start.repeat_interleave(config.num_synthesis_bins))
        self.oscillator = Oscillator(config)
        self.noise = NoisePhases(config)
        self.synthesis = Synthesis(config)
        hann_n = torch.hann_window(config.synthesis_window_samples)
        self.analysis_window: Tensor
        self.register_buffer("analysis_window", hann_n * 4 / len(hann_n), persistent=False)

    def initial_state(self, num_rows: int) -> State:
        past = 3 * self.config.synthesis_hop_samples
        zeros = self.embed.weight.new_zeros
        inner = {_INNER + name: value for name, value in self.inner.initial_state(num_rows).items()}
        return {
            **super().initial_state(num_rows),
            **inner,
            "phase_B1": zeros(num_rows, 1, dtype=torch.int64),
            "noise_B1": zeros(num_rows, 1, dtype=torch.int64),
            "source_BS": zeros(num_rows, past),
            "overlap_BS": zeros(num_rows, past),
        }

    def decode(self, latent_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        hidden_BSc, new = self._hidden(latent_BTD, state)
        pcm_BL = self._sound(hidden_BSc, fine_pitch(self.pitch(hidden_BSc)), state, new)
        return pcm_BL, new

    def reconstruct(self, latent_BTD: Tensor, real_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Every other clip is made with its true pitch, where it has one. The loss is the pitch's cross entropy."""
        state = self.initial_state(len(latent_BTD))
        hidden_BSc, new = self._hidden(latent_BTD, state)
        if not self.config.oscillator:
            pitch_BS = torch.zeros(hidden_BSc.shape[:2], dtype=torch.int64, device=hidden_BSc.device)
            return self._sound(hidden_BSc, pitch_BS, state, new), real_BL.new_zeros(())
        logits_BSP = self.pitch(hidden_BSc)
        true_BS, clear_BS = self._true_pitch(real_BL, hidden_BSc.shape[1])
        classes_P = torch.arange(self.config.num_pitches, device=true_BS.device)
        target_BSP = (-0.5 * ((classes_P - true_BS[..., None]) / _TARGET_DEVIATION).square()).softmax(-1)
        entropy_BS = -(target_BSP * logits_BSP.log_softmax(-1)).sum(-1)
        loss = _PITCH_WEIGHT * (entropy_BS * clear_BS).sum() / clear_BS.sum().clamp(min=1)
        told_B1 = torch.arange(len(real_BL), device=true_BS.device)[:, None] % 2 == 0
        told_BS = told_B1 & clear_BS
        pitch_BS = torch.where(told_BS, (true_BS * FINE_PITCHES).round().long(), fine_pitch(logits_BSP.detach()))
        return self._sound(hidden_BSc, pitch_BS, state, new), loss

    @torch.no_grad()
    def _true_pitch(self, real_BL: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
        """Pitch in classes of each synthesis frame's newest hop, and whether it is clear."""
        config, hop = self.config, self.config.synthesis_hop_samples
        centres_S = (torch.arange(num_frames, device=real_BL.device) + 3) * hop + hop // 2
        highest_hz = config.lowest_pitch_hz * 2 ** (config.num_pitches / config.pitches_per_octave)
        hz_BS, clarity_BS = track_pitch(
            real_BL, config.sample_rate_hz, centres_S, lowest_hz=config.lowest_pitch_hz, highest_hz=highest_hz
        )
        inside_S = centres_S < real_BL.shape[1] - 2 * hop
        return self.oscillator.pitch_of(hz_BS), (clarity_BS > _CLEAR) & inside_S

    def _hidden(self, latent_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        hidden_BTC, new = self(latent_BTD.transpose(1, 2), state)
        rows_BSc = self.upsample(hidden_BTC).reshape(len(hidden_BTC), -1, self.config.inner_width)
        inner_state = {name.removeprefix(_INNER): value for name, value in state.items() if name.startswith(_INNER)}
        hidden_BSc, inner_new = self.inner(rows_BSc.transpose(1, 2), inner_state)
        return hidden_BSc, new | {_INNER + name: value for name, value in inner_new.items()}

    def _sound(self, hidden_BSc: Tensor, pitch_BS: Tensor, state: State, new: State) -> Tensor:
        """The samples of hidden_BSc; puts the sources' next states into `new`."""
        config = self.config
        parts_BSf = self.head(hidden_BSc).chunk(5, dim=-1)
        filter_BSf, noise_BSf, free_BSf = (part.clamp(max=config.max_log_magnitude).exp() for part in parts_BSf[:3])
        noise_phase_BSf, new["noise_B1"] = self.noise(state["noise_B1"], hidden_BSc.shape[1])
        spectrum_BSf = torch.polar(noise_BSf, noise_phase_BSf) + torch.polar(free_BSf, parts_BSf[4])
        source_BL, new["phase_B1"] = self.oscillator(pitch_BS, state["phase_B1"])
        joined_BL = torch.cat([state["source_BS"], source_BL], dim=-1)
        new["source_BS"] = joined_BL[:, joined_BL.shape[1] - state["source_BS"].shape[1] :]
        if config.oscillator:
            windows_BSn = joined_BL.unfold(-1, config.synthesis_window_samples, config.synthesis_hop_samples)
            source_BSf = torch.fft.rfft(windows_BSn * self.analysis_window)
            spectrum_BSf = spectrum_BSf + torch.polar(filter_BSf, parts_BSf[3]) * source_BSf
        made: tuple[Tensor, Tensor] = self.synthesis(spectrum_BSf, state["overlap_BS"])
        new["overlap_BS"] = made[1]
        return made[0]


class HarmonicCodec(TrainedCodec[HarmonicCodecConfig]):
    """Encoder, codebooks and decoder; see the top of the module for the architecture."""

    config_type = HarmonicCodecConfig

    def make_decoder(self, config: HarmonicCodecConfig) -> Decoder:
        return Decoder(config)
