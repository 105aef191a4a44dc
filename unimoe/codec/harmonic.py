"""The harmonic codec: its decoder drives an oscillator, whose phase runs on from frame to frame.

Encoder, codebooks and blocks are those of `unimoe.codec.convnext`. A decoder without recurrence only knows the phase
within its frame, so a voice's harmonics break from frame to frame. Here the predicted pitch drives a running phase, as
in source-filter vocoders (Wang et al. 2019, https://arxiv.org/abs/1904.12088), and the network filters the
oscillator's output in short spectra. Free spectra with their own phases produce sound without a single pitch: chords
and onsets.

Shapes: B rows, T frames, D latent, C width, J synthesis frames of a frame; of the inner stack: S = T J synthesis
frames, c inner width, h = H / J hop, n = 4 h window, f = n / 2 + 1 bins, P pitch classes, R noise frames.

Encoder.  As in the ConvNeXt codec, plus latent_BTD += encoder.skip.{weight [D, M], bias} of the M log band energies.
          At the start of training this path gives their principal components, and the stack gives 0.
Decoder.  latent_BTD -> stack at the frame rate (state names as there) -> hidden_BTC
          decoder.upsample.{weight [J c, C], bias}    Linear; hidden_BTC -> inner_BSc, J rows of each frame
          decoder.inner.*                             a stack as the outer one, embed over c; state `inner_` + its names
          decoder.pitch.{weight [P, c], bias}         Linear: logits of the pitch of hop s + 3, the newest of the window
          decoder.envelope.{weight [J M, D, 3], bias} causal Conv1d of the latents (the last two of `embed_context_BDP`
                                                      before them): J rows of M log bands of each frame
          decoder.spread.weight [M, f]                from bands to bins; frozen
          decoder.head.{weight [5 f, c], bias}        Linear: log magnitudes of filter, noise and free spectrum, each on
                                                      top of the envelope, then phases of filter and free spectrum;
                                                      magnitudes are exp(min(log magnitude, max_log_magnitude))
Source.   Fine pitch i = 8 x likeliest class + round(8 x mean distance from it of the classes within 3 of it, weighted
          by exp(logit)). `unimoe_runtime.codec.oscillator` gives each its phase steps. State `phase_B1` (int64).
          Harmonics have amplitude 1. Window s covers source samples s h ... s h + n - 1, of which state `source_BS`
          has the first 3 h. source_BSf = rfft(window x hann_n) x 4 / n, so that a steady harmonic has magnitude 1.
Noise.    decoder.noise.phase [R, f]: row (state `noise_B1` + s) mod R, radians.
Output.   spectrum = filter e^(i filter phase) source + noise e^(i noise phase) + free e^(i free phase)
          -> inverse STFT as in the ConvNeXt codec, state `overlap_BS`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unimoe.codec.common import CodecDecoder, TrainedCodec
from unimoe.codec.config import HarmonicCodecConfig
from unimoe.codec.layers import BlockShape, Encoder, Stack, State, Synthesis, band_weights
from unimoe.codec.oscillator import NoisePhases, Oscillator, fine_pitch
from unimoe.codec.pitch import track_pitch
from unimoe.world import RowSum, own_rows
from unimoe_runtime.codec.oscillator import FINE_PITCHES

_CLEAR = 0.6  # minimum clarity of a pitch that is a training target
_PITCH_WEIGHT = 0.3
_POWER_WEIGHT = 0.5
_POWER_BANDS = 80
_POWER_FLOOR = 1e-4  # a full-scale sine has the power (n / 4)^2
_TARGET_DEVIATION = 0.8  # standard deviation of the soft target, in pitch classes
_INNER = "inner_"
ENVELOPE_FRAMES = 3
"""Number of latents that determine a frame's envelope."""


class BandEncoder(Encoder):
    """An encoder with a linear path past its stack: log band energies to latents."""

    def __init__(self, config: HarmonicCodecConfig) -> None:
        super().__init__(config)
        self.skip = nn.Linear(config.num_bands, config.latent_size)

    def encode_features(self, features_BTM: Tensor) -> Tensor:
        latent_BTD: Tensor = super().encode_features(features_BTM) + self.skip(features_BTM)
        return latent_BTD


def band_spread(config: HarmonicCodecConfig) -> Tensor:
    """Linear interpolation [M, f] from the encoder's bands to a synthesis frame's bins, on the bands' axis."""
    last = config.num_bands + 1
    low, high = (math.log1p(f / config.band_break_hz) for f in (config.lowest_band_hz, config.sample_rate_hz / 2))
    bins_hz = torch.arange(config.num_synthesis_bins) * config.sample_rate_hz / config.synthesis_window_samples
    place_f = ((bins_hz / config.band_break_hz).log1p() - low) / (high - low) * last - 1
    distance_Mf = (place_f.clamp(0, config.num_bands - 1) - torch.arange(config.num_bands)[:, None]).abs()
    return (1 - distance_Mf).clamp(min=0)


class Spread(nn.Module):
    """Bands to bins. Frozen but saved, so that a reader need not derive the matrix."""

    weight: Tensor

    def __init__(self, config: HarmonicCodecConfig) -> None:
        super().__init__()
        self.register_buffer("weight", band_spread(config))


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
        self.envelope = nn.Conv1d(config.latent_size, config.synthesis_frames * config.num_bands, ENVELOPE_FRAMES)
        self.spread = Spread(config)
        self.pitch = nn.Linear(width, config.num_pitches)
        self.head = nn.Linear(width, 5 * config.num_synthesis_bins)
        with torch.no_grad():
            # First filter, noise and free spectrum relative to the envelope, then the phases.
            start = torch.tensor([0.5 if config.oscillator else -20.0, -1.5, -3.0, 0.0, 0.0])
            self.head.bias.copy_(start.repeat_interleave(config.num_synthesis_bins))
            self.head.weight.mul_(0.1)
        self.oscillator = Oscillator(config)
        self.noise = NoisePhases(config)
        self.synthesis = Synthesis(config)
        hann_n = torch.hann_window(config.synthesis_window_samples)
        self.analysis_window: Tensor
        self.register_buffer("analysis_window", hann_n * 4 / len(hann_n), persistent=False)
        self.power_bands: Tensor
        bands = replace(
            config, hop_samples=config.synthesis_hop_samples, window_samples=len(hann_n), synthesis_frames=1
        )
        bands = replace(bands, num_bands=min(_POWER_BANDS, len(hann_n) // 8), band_break_hz=700.0, lowest_band_hz=0.0)
        self.register_buffer("power_bands", torch.from_numpy(band_weights(bands)), persistent=False)

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
        hidden_BSc, envelope_BSf, new = self.hidden(latent_BTD, state)
        spectra = self._spectra((hidden_BSc, envelope_BSf), fine_pitch(self.pitch(hidden_BSc)), state, new)
        pcm_BL, new["overlap_BS"] = self.synthesis(sum(spectra), state["overlap_BS"])
        return pcm_BL, new

    def reconstruct(
        self, latent_BTD: Tensor, real_BL: Tensor, first_row: int = 0, row_sum: RowSum = own_rows
    ) -> tuple[Tensor, Tensor]:
        """Half of the clips use their true pitch, where they have one.

        The loss is the cross entropy of the pitch, plus the distance in bands between the power of the parts' spectra
        and the clip's. The parts' power does not depend on their relative phases, so training learns it first.
        """
        state = self.initial_state(len(latent_BTD))
        hidden_BSc, envelope_BSf, new = self.hidden(latent_BTD, state)
        pitch_BS, *of_pitch = self._taught_pitch(hidden_BSc, real_BL, first_row)
        spectra = self._spectra((hidden_BSc, envelope_BSf), pitch_BS, state, new)
        power_BSf = torch.stack([part.real.square() + part.imag.square() for part in spectra]).sum(0)
        pcm_BL, _ = self.synthesis(sum(spectra), state["overlap_BS"])
        entropy, num_clear, distance, num_powers = row_sum(
            torch.stack([*of_pitch, *self._power_distance(power_BSf, real_BL)])
        )
        return pcm_BL, _PITCH_WEIGHT * entropy / num_clear.clamp(min=1) + _POWER_WEIGHT * distance / num_powers

    def _power_distance(self, power_BSf: Tensor, real_BL: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the distances of log powers in bands, and their number."""
        size, hop = self.config.synthesis_window_samples, self.config.synthesis_hop_samples
        frames_BSn = F.pad(real_BL, (0, size - hop)).unfold(-1, size, hop)[:, : power_BSf.shape[1]]
        real_BSf = torch.fft.rfft(frames_BSn * (self.analysis_window * size / 4)).abs().square()
        made_BSM, real_BSM = (each @ self.power_bands for each in (power_BSf, real_BSf))
        inside = slice(0, power_BSf.shape[1] - 3 * self.config.synthesis_frames)
        distance_BSM = (made_BSM + _POWER_FLOOR).log() - (real_BSM + _POWER_FLOOR).log()
        distance_BSM = distance_BSM[:, inside]
        return distance_BSM.abs().sum(), real_BL.new_tensor(float(distance_BSM.numel()))

    def _taught_pitch(self, hidden_BSc: Tensor, real_BL: Tensor, first_row: int) -> tuple[Tensor, Tensor, Tensor]:
        """Fine pitches pitch_BS to use for synthesis, the sum of the clear pitches' cross entropies, their number."""
        nothing = real_BL.new_zeros(())
        if not self.config.oscillator:
            no_pitch_BS = torch.zeros(hidden_BSc.shape[:2], dtype=torch.int64, device=hidden_BSc.device)
            return no_pitch_BS, nothing, nothing
        logits_BSP = self.pitch(hidden_BSc)
        true_BS, clear_BS = self._true_pitch(real_BL, hidden_BSc.shape[1])
        classes_P = torch.arange(self.config.num_pitches, device=true_BS.device)
        target_BSP = (-0.5 * ((classes_P - true_BS[..., None]) / _TARGET_DEVIATION).square()).softmax(-1)
        entropy_BS = -(target_BSP * logits_BSP.log_softmax(-1)).sum(-1)
        rows_B1 = first_row + torch.arange(len(real_BL), device=true_BS.device)[:, None]
        told_BS = (rows_B1 % 2 == 0) & clear_BS
        pitch_BS = torch.where(told_BS, (true_BS * FINE_PITCHES).round().long(), fine_pitch(logits_BSP.detach()))
        return pitch_BS, (entropy_BS * clear_BS).sum(), clear_BS.sum().to(entropy_BS.dtype)

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

    def hidden(self, latent_BTD: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """hidden_BSc of the inner stack, the log envelope_BSf, and the stacks' next states."""
        latent_BDT = latent_BTD.transpose(1, 2)
        hidden_BTC, new = self(latent_BDT, state)
        rows_BSc = self.upsample(hidden_BTC).reshape(len(hidden_BTC), -1, self.config.inner_width)
        inner_state = {name.removeprefix(_INNER): value for name, value in state.items() if name.startswith(_INNER)}
        hidden_BSc, inner_new = self.inner(rows_BSc.transpose(1, 2), inner_state)
        context_BDP = state["embed_context_BDP"][..., 1 - ENVELOPE_FRAMES :]
        bands_BTX = self.envelope(torch.cat([context_BDP, latent_BDT], dim=-1)).transpose(1, 2)
        envelope_BSf = bands_BTX.reshape(len(bands_BTX), -1, self.config.num_bands) @ self.spread.weight
        return hidden_BSc, envelope_BSf, new | {_INNER + name: value for name, value in inner_new.items()}

    def _spectra(self, heard: tuple[Tensor, Tensor], pitch_BS: Tensor, state: State, new: State) -> list[Tensor]:
        """Complex spectra of the noise, the free part and the source. Puts the next states of the sources into `new`.

        `heard`: hidden_BSc and envelope_BSf.
        """
        config = self.config
        hidden_BSc, envelope_BSf = heard
        parts_BSf = self.head(hidden_BSc).chunk(5, dim=-1)
        filter_BSf, noise_BSf, free_BSf = (
            (part + envelope_BSf).clamp(max=config.max_log_magnitude).exp() for part in parts_BSf[:3]
        )
        noise_phase_BSf, new["noise_B1"] = self.noise(state["noise_B1"], hidden_BSc.shape[1])
        spectra = [torch.polar(noise_BSf, noise_phase_BSf), torch.polar(free_BSf, parts_BSf[4])]
        source_BL, new["phase_B1"] = self.oscillator(pitch_BS, state["phase_B1"])
        joined_BL = torch.cat([state["source_BS"], source_BL], dim=-1)
        new["source_BS"] = joined_BL[:, joined_BL.shape[1] - state["source_BS"].shape[1] :]
        if config.oscillator:
            windows_BSn = joined_BL.unfold(-1, config.synthesis_window_samples, config.synthesis_hop_samples)
            source_BSf = torch.fft.rfft(windows_BSn * self.analysis_window)
            spectra.append(torch.polar(filter_BSf, parts_BSf[3]) * source_BSf)
        return spectra


class HarmonicCodec(TrainedCodec[HarmonicCodecConfig]):
    """Encoder, codebooks and decoder; see the top of the module for the architecture."""

    config_type = HarmonicCodecConfig
    encoder: BandEncoder
    decoder: Decoder

    def make_encoder(self, config: HarmonicCodecConfig) -> BandEncoder:
        return BandEncoder(config)

    def make_decoder(self, config: HarmonicCodecConfig) -> Decoder:
        return Decoder(config)

    def learning_rate_share(self, name: str) -> float:
        """Lower rates for the linear path: it is set from statistics, and a full rate would destabilise it."""
        return {"encoder.skip": 0.0, "decoder.envelope": 0.1}.get(name.rpartition(".")[0], 1.0)

    @torch.no_grad()
    def fit_features(self, features_NM: Tensor) -> None:
        """Initialise the latents as principal components of the log bands, the decoder's envelope as their inverse."""
        config, encoder, envelope = self.config, self.encoder, self.decoder.envelope
        mean_M = features_NM.mean(0)
        centred_NM = features_NM - mean_M
        variance, vectors_MV = torch.linalg.eigh(centred_NM.T @ centred_NM / len(centred_NM))
        kept = min(config.latent_size, config.num_bands)
        components_MD = F.pad(vectors_MV[:, -kept:].flip(1), (0, config.latent_size - kept))
        scale = (config.latent_size / variance.sum()).sqrt()  # gives a mean square of 1
        encoder.skip.weight.copy_(scale * components_MD.T)
        encoder.skip.bias.copy_(-scale * mean_M @ components_MD)
        encoder.project.weight.zero_()
        encoder.project.bias.zero_()
        # The middle of a latent's window is two hops after its beginning, that of synthesis window j two shorter hops
        # after its own, and window j begins j shorter hops later.
        frames = config.synthesis_frames
        late_J = 2 - (torch.arange(frames, device=mean_M.device) + 2) / frames  # in frames
        taps_J3 = (1 - (late_J[:, None] - torch.arange(ENVELOPE_FRAMES - 1, -1, -1, device=mean_M.device)).abs()).clamp(
            0
        )
        weight = taps_J3[:, None, None, :] * (components_MD / scale)[None, :, :, None]
        envelope.weight.copy_(weight.flatten(0, 1))
        assert envelope.bias is not None
        # The magnitude of noise is proportional to the square root of the window's length.
        envelope.bias.copy_((mean_M - math.log(frames) / 2).repeat(frames))
