"""The oracle of the `harmonic` codec's decoder, in numpy; its encoder is the `convnext` codec's (`convnext_codec`).

`unimoe.codec.harmonic` describes the architecture. Weights are a bundle's: linear ones as [in, out], a block's scale
folded into its last product.

B batch · K codebooks · T frames · C width · S synthesis frames · c inner width · h hop · n window (4 h) · f bins
P pitch classes · L samples
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.numpy.convnext_codec import causal_stack, dequantize, hann, linear, overlap_add
from unimoe_runtime.backends.numpy.ops import Floats, Weights
from unimoe_runtime.codec.oscillator import FINE_PITCHES, PHASE_STEPS, PITCH_REACH, pitch_table

Inputs = Mapping[str, NDArray[Any]]


def decoder(description: Mapping[str, Any], weights: Weights, inputs: Inputs) -> dict[str, Any]:
    """pcm_BL of codes_BKT and the state, and the next state."""
    hop = int(description["hop_samples"]) // int(description["synthesis_frames"])
    latent_BTD = dequantize(description, weights, inputs["codes_BKT"])
    new: dict[str, Any] = {}
    hidden_BTC = causal_stack(description, weights, "decoder", latent_BTD.swapaxes(1, 2), (inputs, new))
    width = weights["decoder.inner.norm.weight"].shape[0]
    rows_BSc = linear(weights, "decoder.upsample", hidden_BTC).reshape(len(hidden_BTC), -1, width)
    hidden_BSc = causal_stack(description, weights, "decoder.inner", rows_BSc.swapaxes(1, 2), (inputs, new), "inner_")
    parts = np.split(linear(weights, "decoder.head", hidden_BSc), 5, axis=2)
    limit = np.float32(description["max_log_magnitude"])
    envelope_BSf = _envelope(weights, latent_BTD, inputs["embed_context_BDP"])
    filter_BSf, noise_BSf, free_BSf = (np.exp(np.minimum(part + envelope_BSf, limit)) for part in parts[:3])

    table_RG = weights["noise.weight"]
    num_frames = hidden_BSc.shape[1]
    picked_BSG = table_RG[(inputs["noise_B1"] + np.arange(num_frames)) % len(table_RG)]
    new["new_noise_B1"] = (inputs["noise_B1"] + num_frames) % len(table_RG)
    cos_BSf, sin_BSf = np.split(picked_BSG, 2, axis=2)
    spectrum_BSf = noise_BSf * (cos_BSf + 1j * sin_BSf) + free_BSf * np.exp(1j * parts[4])

    pitch_BS = _fine_pitch(linear(weights, "decoder.pitch", hidden_BSc))
    source_BL, new["new_phase_B1"] = _oscillate(description, pitch_BS, inputs["phase_B1"], hop)
    joined_BL = np.concatenate([inputs["source_BS"], source_BL], axis=1)
    new["new_source_BS"] = joined_BL[:, -3 * hop :]
    if description["oscillator"]:
        windows_BSn = np.lib.stride_tricks.sliding_window_view(joined_BL, 4 * hop, axis=1)[:, ::hop]
        source_BSf = np.fft.rfft(windows_BSn * hann(4 * hop)) / hop  # a steady harmonic has magnitude 1
        spectrum_BSf = spectrum_BSf + filter_BSf * np.exp(1j * parts[3]) * source_BSf
    pcm_BL, new["new_overlap_BS"] = overlap_add(spectrum_BSf, inputs["overlap_BS"])
    return {"pcm_BL": pcm_BL, **new}


def _envelope(weights: Weights, latent_BTD: Floats, context_BDP: Floats) -> Floats:
    """The log envelope of the synthesis frames, from each latent and the ones before it."""
    weight = weights["decoder.envelope.weight"]
    size = weight.shape[2]
    joined_BDT = np.concatenate([context_BDP[:, :, 1 - size :], latent_BTD.swapaxes(1, 2)], axis=2)
    windows = np.lib.stride_tricks.sliding_window_view(joined_BDT, size, axis=2)
    bands_BTX = np.einsum("bitp,oip->bto", windows, weight, optimize=True) + weights["decoder.envelope.bias"]
    spread_Mf = weights["decoder.spread.weight"]
    return np.asarray(bands_BTX.reshape(len(bands_BTX), -1, len(spread_Mf)) @ spread_Mf)


def _fine_pitch(logits_BSP: Floats) -> NDArray[np.int64]:
    """The mean over the most likely pitch class and its neighbours, in fine pitches."""
    best_BS1 = logits_BSP.argmax(axis=2, keepdims=True)
    distance_BSP = np.arange(logits_BSP.shape[2]) - best_BS1
    weight_BSP = np.exp(logits_BSP - logits_BSP.max(axis=2, keepdims=True))
    weight_BSP = np.where(np.abs(distance_BSP) <= PITCH_REACH, weight_BSP, 0)
    mean_BS = (weight_BSP * distance_BSP).sum(axis=2) / weight_BSP.sum(axis=2)
    return np.asarray(best_BS1[..., 0] * FINE_PITCHES + np.round(mean_BS * FINE_PITCHES).astype(np.int64))


def _oscillate(
    description: Mapping[str, Any], pitch_BS: NDArray[np.int64], phase_B1: NDArray[np.int64], hop: int
) -> tuple[Floats, NDArray[np.int64]]:
    """The sum of all harmonics' cosines, source_BL, and the next phase."""
    steps_I, lobes_I = pitch_table(
        lowest_hz=description["lowest_pitch_hz"],
        pitches_per_octave=description["pitches_per_octave"],
        num_pitches=description["num_pitches"],
        sample_rate_hz=description["sample_rate_hz"],
    )
    steps_BL = steps_I[pitch_BS].repeat(hop, axis=1)
    phase_BL = (np.cumsum(steps_BL, axis=1) - steps_BL + phase_B1) % PHASE_STEPS
    angle_BL = np.pi * np.where(phase_BL < PHASE_STEPS // 2, phase_BL, phase_BL - PHASE_STEPS) / PHASE_STEPS
    lobes_BL = lobes_I[pitch_BS].repeat(hop, axis=1)
    flat_BL = np.abs(angle_BL) < 1e-6
    ratio_BL = np.where(flat_BL, lobes_BL, np.sin(lobes_BL * angle_BL) / np.sin(np.where(flat_BL, 1, angle_BL)))
    return ((ratio_BL - 1) / 2).astype(np.float32), (phase_B1 + steps_BL.sum(axis=1, keepdims=True)) % PHASE_STEPS
