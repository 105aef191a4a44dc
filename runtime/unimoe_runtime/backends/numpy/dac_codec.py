"""The oracle of DAC's graphs, in numpy: convolutions as sums over their taps.

`unimoe_runtime.codec.dac_config` describes the architecture. Weights are a bundle's: convolutions [out, in, tap],
transposed ones [in, out, tap], the quantizer's projections [in, out], its codes once as stored and once normalized
to directions.

B batch · L samples · C channels · T time steps · K codebooks · V codes · D width of the latent · W width of a code
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.numpy.ops import Floats, Weights
from unimoe_runtime.codec.dac_config import DILATIONS, KERNEL, half


def encoder(description: Mapping[str, Any], weights: Weights, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """codes_BKT of pcm_BL, L a multiple of the hop."""
    strides = description["encoder_strides"]
    hidden_BCT = _conv(weights, "encoder.block.0", inputs["pcm_BL"][:, None], padding=KERNEL // 2)
    for index, stride in enumerate(strides, 1):
        block = f"encoder.block.{index}.block"
        hidden_BCT = _snake(weights, f"{block}.3", _units(weights, block, 0, hidden_BCT))
        hidden_BCT = _conv(weights, f"{block}.4", hidden_BCT, padding=half(stride), stride=stride)
    end = len(strides) + 1
    latent_BDT = _conv(
        weights, f"encoder.block.{end + 1}", _snake(weights, f"encoder.block.{end}", hidden_BCT), padding=1
    )
    residual_BTD = latent_BDT.swapaxes(1, 2)
    codes = []
    num_codebooks = int(description["num_codebooks"])
    for index in range(num_codebooks):
        name = f"codebook.{index}"
        found_BTW = residual_BTD @ weights[f"{name}.in.weight"] + weights[f"{name}.in.bias"]
        unit_BTW = found_BTW / np.maximum(np.linalg.norm(found_BTW, axis=-1, keepdims=True), 1e-12)
        directions_WV = weights[f"{name}.directions"]
        distance_BTV = (directions_WV**2).sum(axis=0) - 2 * unit_BTW @ directions_WV
        codes.append(distance_BTV.argmin(axis=-1))
        if index + 1 < num_codebooks:
            code_BTW = weights[f"{name}.codes"][codes[-1]]
            residual_BTD = residual_BTD - code_BTW @ weights[f"{name}.out.weight"] - weights[f"{name}.out.bias"]
    return {"codes_BKT": np.stack(codes, axis=1)}


def decoder(description: Mapping[str, Any], weights: Weights, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """pcm_BL of codes_BKT, L = T · hop, padded with silence if the decoder gives fewer samples."""
    strides = description["decoder_strides"]
    codes_BKT = inputs["codes_BKT"]
    batch, num_codebooks, length = codes_BKT.shape
    rows_BTK = codes_BKT.swapaxes(1, 2) + np.arange(num_codebooks) * int(description["codebook_size"])
    codes_BTE = weights["codebooks.weight"][rows_BTK].reshape(batch, length, -1)
    latent_BTD = codes_BTE @ weights["codebooks.out.weight"] + weights["codebooks.out.bias"]
    hidden_BCT = _conv(weights, "decoder.model.0", latent_BTD.swapaxes(1, 2), padding=KERNEL // 2)
    for index, stride in enumerate(strides, 1):
        block = f"decoder.model.{index}.block"
        hidden_BCT = _transposed(weights, f"{block}.1", _snake(weights, f"{block}.0", hidden_BCT), stride)
        hidden_BCT = _units(weights, block, 2, hidden_BCT)
    end = len(strides) + 1
    last = _snake(weights, f"decoder.model.{end}", hidden_BCT)
    pcm_BL = np.tanh(_conv(weights, f"decoder.model.{end + 1}", last, padding=KERNEL // 2))[:, 0]
    missing = length * int(description["hop_samples"]) - pcm_BL.shape[1]
    return {"pcm_BL": np.pad(pcm_BL, ((0, 0), (0, missing)))}


def _units(weights: Weights, block: str, first: int, x_BCT: Floats) -> Floats:
    """The three residual units of a block, from position `first`."""
    for position, dilation in enumerate(DILATIONS, first):
        name = f"{block}.{position}.block"
        hidden_BCT = _snake(weights, f"{name}.0", x_BCT)
        hidden_BCT = _conv(weights, f"{name}.1", hidden_BCT, padding=KERNEL // 2 * dilation, dilation=dilation)
        x_BCT = x_BCT + _conv(weights, f"{name}.3", _snake(weights, f"{name}.2", hidden_BCT), padding=0)
    return x_BCT


def _snake(weights: Weights, name: str, x_BCT: Floats) -> Floats:
    return np.asarray(x_BCT + np.sin(weights[f"{name}.alpha"] * x_BCT) ** 2 * weights[f"{name}.gain"])


def _conv(weights: Weights, name: str, x_BCT: Floats, *, padding: int, stride: int = 1, dilation: int = 1) -> Floats:
    weight_OIP = weights[f"{name}.weight"]
    x_BCT = np.pad(x_BCT, ((0, 0), (0, 0), (padding, padding)))
    length = (x_BCT.shape[2] - dilation * (weight_OIP.shape[2] - 1) - 1) // stride + 1
    taps = [
        weight_OIP[:, :, tap] @ x_BCT[:, :, tap * dilation :][:, :, : (length - 1) * stride + 1 : stride]
        for tap in range(weight_OIP.shape[2])
    ]
    return np.asarray(sum(taps) + weights[f"{name}.bias"][:, None])


def _transposed(weights: Weights, name: str, x_BCT: Floats, stride: int) -> Floats:
    """Each input spreads over a kernel of two strides; `half(stride)` samples are cut off at both ends."""
    weight_IOP = weights[f"{name}.weight"]
    batch, _, length = x_BCT.shape
    spread_BCT = np.zeros((batch, weight_IOP.shape[1], (length + 1) * stride), np.float32)
    for tap in range(2 * stride):
        spread_BCT[:, :, tap:][:, :, : (length - 1) * stride + 1 : stride] += weight_IOP[:, :, tap].T @ x_BCT
    return np.asarray(spread_BCT[:, :, half(stride) : -half(stride)] + weights[f"{name}.bias"][:, None])
