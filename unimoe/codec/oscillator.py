"""The harmonic codec's sources of sound in torch: an oscillator with a running phase, and a table of noise phases.

Shapes: B rows, T synthesis frames, H hop of a synthesis frame, L samples, P pitch classes, I fine pitches, F bins.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from unimoe.codec.config import HarmonicCodecConfig
from unimoe_runtime.codec.oscillator import FINE_PITCHES, PHASE_STEPS, PITCH_REACH, pitch_table


def fine_pitch(logits_BTP: Tensor) -> Tensor:
    """Fine pitches pitch_BT (int64): the mean over the most likely class and its neighbours."""
    best_BT1 = logits_BTP.argmax(-1, keepdim=True)
    classes_P = torch.arange(logits_BTP.shape[-1], device=logits_BTP.device)
    distance_BTP = classes_P - best_BT1
    weight_BTP = (logits_BTP - logits_BTP.gather(-1, best_BT1)).exp()
    weight_BTP = torch.where(distance_BTP.abs() <= PITCH_REACH, weight_BTP, 0.0)
    # The mean's distance from the most likely class is small, so rounding errors are smaller than for the mean itself.
    mean_BT = (weight_BTP * distance_BTP).sum(-1) / weight_BTP.sum(-1)
    return best_BT1[..., 0] * FINE_PITCHES + (mean_BT * FINE_PITCHES).round().long()


class Oscillator(nn.Module):
    """The sum of all harmonics of a pitch, each with amplitude 1. The phase runs on from frame to frame."""

    steps_I: Tensor
    lobes_I: Tensor

    def __init__(self, config: HarmonicCodecConfig) -> None:
        super().__init__()
        self.config = config
        steps_I, lobes_I = pitch_table(
            lowest_hz=config.lowest_pitch_hz,
            pitches_per_octave=config.pitches_per_octave,
            num_pitches=config.num_pitches,
            sample_rate_hz=config.sample_rate_hz,
        )
        self.register_buffer("steps_I", torch.from_numpy(steps_I), persistent=False)
        self.register_buffer("lobes_I", torch.from_numpy(lobes_I), persistent=False)

    def pitch_of(self, frequency_hz: Tensor) -> Tensor:
        """Pitch in classes (fractional), clipped to the existing classes."""
        octaves = (frequency_hz.clamp(min=1.0) / self.config.lowest_pitch_hz).log2()
        return (octaves * self.config.pitches_per_octave).clamp(0, self.config.num_pitches - 1)

    def forward(self, pitch_BT: Tensor, phase_B1: Tensor) -> tuple[Tensor, Tensor]:
        """Samples source_BL, L = T x H, of fine pitches, and the next phase (int64)."""
        hop = self.config.synthesis_hop_samples
        steps_BT = self.steps_I[pitch_BT]
        ends_BT = phase_B1 + (steps_BT * hop).cumsum(-1)
        starts_BT = ends_BT - steps_BT * hop
        offsets_BTH = steps_BT[..., None] * torch.arange(hop, device=steps_BT.device)
        half = PHASE_STEPS // 2
        phase_BTH = (starts_BT[..., None] + offsets_BTH + half) % PHASE_STEPS - half  # -half … half - 1
        angle_BTH = phase_BTH.float() * (math.pi / PHASE_STEPS)  # half the phase, in radians
        lobes_BT1 = self.lobes_I[pitch_BT][..., None]
        # 1 + 2 x the sum of cos(2 k angle), k = 1 … K, is sin((2 K + 1) angle) / sin(angle).
        flat_BTH = angle_BTH.abs() < 1e-6
        ratio_BTH = torch.where(
            flat_BTH, lobes_BT1, (lobes_BT1 * angle_BTH).sin() / torch.where(flat_BTH, 1.0, angle_BTH).sin()
        )
        return ((ratio_BTH - 1) / 2).flatten(1), ends_BT[:, -1:] % PHASE_STEPS


class NoisePhases(nn.Module):
    """A table of random phases, one row for each synthesis frame, read cyclically."""

    phase: Tensor

    def __init__(self, config: HarmonicCodecConfig) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        phase_RF = torch.rand(config.noise_frames, config.num_synthesis_bins, generator=generator) * 2 * math.pi
        self.register_buffer("phase", phase_RF)

    def forward(self, position_B1: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
        """Phases phase_BTF from `position_B1` (int64) on, and the next position."""
        length = len(self.phase)
        index_BT = (position_B1 + torch.arange(num_frames, device=self.phase.device)) % length
        return self.phase[index_BT], (position_B1 + num_frames) % length
