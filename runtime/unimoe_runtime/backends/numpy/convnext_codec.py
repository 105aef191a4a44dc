"""The oracle of the `convnext` codec's graphs, in numpy: Fourier transforms by FFT, convolutions and sums as defined.

`unimoe.codec.convnext` describes the architecture. Weights are a bundle's: linear ones as [in, out], a block's
scale folded into its last product. The `harmonic` codec has the same encoder (`harmonic_codec`).

B batch · L samples · H hop · N window (4 H) · F bins · M bands · T frames · C channels · K codebooks · V codes
D latent · P left context of a convolution · S samples of a synthesis window past its hop
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.numpy.ops import Floats, Weights, gelu

_OVERLAP_GAIN = 1.5  # sum of the squared Hann window over four hops


def encoder(description: Mapping[str, Any], weights: Weights, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """codes_BKT of pcm_BL, L a multiple of the hop."""
    hop = int(description["hop_samples"])
    pcm_BL = np.pad(inputs["pcm_BL"], ((0, 0), (0, 3 * hop)))
    frames_BTN = np.lib.stride_tricks.sliding_window_view(pcm_BL, 4 * hop, axis=1)[:, ::hop]
    magnitude_BTF = np.abs(np.fft.rfft(frames_BTN * hann(4 * hop))).astype(np.float32)
    bands_BTM = np.maximum(magnitude_BTF @ weights["encoder.bands.weight"], np.float32(description["band_floor"]))
    features_BTM = np.log(bands_BTM)
    hidden_BTC = causal_stack(description, weights, "encoder", features_BTM.swapaxes(1, 2), None)
    residual_BTD = linear(weights, "encoder.project", hidden_BTC)
    if "encoder.skip.weight" in weights:  # only in the harmonic codec
        residual_BTD = residual_BTD + linear(weights, "encoder.skip", features_BTM)
    codes = []
    for codebook in range(int(description["num_codebooks"])):
        codebook_VD = weights[f"codebook.{codebook}.weight"]
        distance_BTV = (codebook_VD**2).sum(axis=1) - 2 * residual_BTD @ codebook_VD.T
        codes.append(distance_BTV.argmin(axis=-1))
        residual_BTD = residual_BTD - codebook_VD[codes[-1]]
    return {"codes_BKT": np.stack(codes, axis=1)}


def decoder(description: Mapping[str, Any], weights: Weights, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """pcm_BL of codes_BKT and the state, and the next state."""
    hop = int(description["hop_samples"])
    codes_BKT = inputs["codes_BKT"]
    latent_BTD = dequantize(description, weights, codes_BKT)
    states = {name: value for name, value in inputs.items() if name != "codes_BKT"}
    outputs: dict[str, Any] = {}
    hidden_BTC = causal_stack(description, weights, "decoder", latent_BTD.swapaxes(1, 2), (states, outputs))
    hop //= int(description.get("synthesis_frames", 1))  # from here on T counts synthesis frames
    spectra_BTG = linear(weights, "decoder.head", hidden_BTC).reshape(len(hidden_BTC), -1, 2 * (2 * hop + 1))
    log_magnitude_BTF, phase_BTF = np.split(spectra_BTG, 2, axis=-1)
    magnitude_BTF = np.exp(np.minimum(log_magnitude_BTF, np.float32(description["max_log_magnitude"])))
    spectrum_BTF = magnitude_BTF * np.exp(1j * phase_BTF)
    pcm_BL, overlap_BS = overlap_add(spectrum_BTF, states["overlap_BS"])
    return {"pcm_BL": pcm_BL, **outputs, "new_overlap_BS": overlap_BS}


def dequantize(description: Mapping[str, Any], weights: Weights, codes_BKT: NDArray[Any]) -> Floats:
    """latent_BTD, the sum of the codes' vectors."""
    num_codebooks = codes_BKT.shape[1]
    codebooks_KVD = weights["codebooks.weight"].reshape(num_codebooks, int(description["codebook_size"]), -1)
    return np.asarray(codebooks_KVD[np.arange(num_codebooks)[:, None], codes_BKT].sum(axis=1))


def overlap_add(spectrum_BTF: NDArray[Any], overlap_BS: Floats) -> tuple[Floats, Floats]:
    """The samples that are complete, and what the spectra add to later samples; a window is four hops."""
    size = 2 * (spectrum_BTF.shape[2] - 1)
    hop = size // 4
    frames_BTN = np.fft.irfft(spectrum_BTF, size) * hann(size) / _OVERLAP_GAIN
    batch, length = frames_BTN.shape[:2]
    sum_BL = np.zeros((batch, (length + 3) * hop))
    sum_BL[:, : 3 * hop] = overlap_BS
    for frame in range(length):
        sum_BL[:, frame * hop : (frame + 4) * hop] += frames_BTN[:, frame]
    split = length * hop
    return sum_BL[:, :split].astype(np.float32), sum_BL[:, split:].astype(np.float32)


def causal_stack(
    description: Mapping[str, Any],
    weights: Weights,
    side: str,
    x_BCT: Floats,
    streaming: tuple[Mapping[str, Floats], dict[str, Any]] | None,
    state_prefix: str = "",
) -> Floats:
    """Embedding convolution, ConvNeXt blocks and norms of one side: hidden_BTC.

    `streaming`: the initial states, and a table for the new ones; None begins with zeros. `state_prefix`: the prefix
    of their names.
    """

    def conv(name: str, x_BCT: Floats, state: str, *, depthwise: bool) -> Floats:
        weight = weights[f"{name}.weight"]
        size, state = weight.shape[2], state_prefix + state
        before = np.zeros((*x_BCT.shape[:2], size - 1), np.float32) if streaming is None else streaming[0][state]
        joined_BCT = np.concatenate([before, x_BCT], axis=2)
        if streaming is not None:
            streaming[1][f"new_{state}"] = joined_BCT[:, :, joined_BCT.shape[2] - size + 1 :]
        windows = np.lib.stride_tricks.sliding_window_view(joined_BCT, size, axis=2)
        form = "bctp,cp->bct" if depthwise else "bitp,oip->bot"
        made = np.einsum(form, windows, weight[:, 0] if depthwise else weight, optimize=True)
        return np.asarray(made + weights[f"{name}.bias"][:, None])

    def norm(name: str, x_BTC: Floats) -> Floats:
        centred = x_BTC - x_BTC.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(description["norm_eps"]))
        return np.asarray(centred / scale * weights[f"{name}.weight"] + weights[f"{name}.bias"])

    hidden_BCT = conv(f"{side}.embed", x_BCT, "embed_context_BDP", depthwise=False)
    hidden_BTC = norm(f"{side}.embed_norm", hidden_BCT.swapaxes(1, 2))
    index = 0
    while f"{side}.blocks.{index}.depthwise.weight" in weights:
        name = f"{side}.blocks.{index}"
        mixed_BCT = conv(f"{name}.depthwise", hidden_BTC.swapaxes(1, 2), f"block_{index}_context_BCP", depthwise=True)
        inner_BTI = gelu(linear(weights, f"{name}.expand", norm(f"{name}.norm", mixed_BCT.swapaxes(1, 2))))
        hidden_BTC = hidden_BTC + linear(weights, f"{name}.contract", inner_BTI)
        index += 1
    return norm(f"{side}.norm", hidden_BTC)


def linear(weights: Weights, name: str, x: Floats) -> Floats:
    """x @ weight + bias over the last axis."""
    return np.asarray(x @ weights[f"{name}.weight"] + weights[f"{name}.bias"])


def hann(size: int) -> Floats:
    """The periodic Hann window."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size), dtype=np.float32)
