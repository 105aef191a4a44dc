"""Graphs of the ConvNeXt codec, `unimoe.codec.convnext` (its docstring draws the architecture).

Shapes: B batch, K codebooks, T frames, L samples, J synthesis frames of a frame, N window, F bins. In the decoder, T,
N and F refer to synthesis frames once each frame has become J of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir

from unimoe_export.graphs.builder import GraphBuilder
from unimoe_export.graphs.codecs.blocks import (
    OVERLAPS,
    CausalStack,
    DecoderKind,
    overlap_add,
    transform_bases,
    write_graphs,
)
from unimoe_export.graphs.codecs.common import CodecGraphs, States, Tensors


def write_codec(codec_dir: Path, out_dir: Path, num_codebooks: int | None = None) -> CodecGraphs:
    """Write both graphs of a folder of this kind; see `write.write_codec`."""
    return write_graphs(codec_dir, out_dir, num_codebooks, DecoderKind(weights=_weights, build=_build))


def _weights(decoder: Tensors, config: Mapping[str, Any]) -> Tensors:
    _, inverse_GN = transform_bases(config["window_samples"] // config["synthesis_frames"])
    return decoder | {"transform.weight": inverse_GN}


def _build(builder: GraphBuilder, states: States, latent_BTD: ir.Value, config: Mapping[str, Any]) -> None:
    op, constant = builder.op, builder.constant
    stack = CausalStack(builder, "decoder", config, states)
    hidden_BTC = stack.run(op("Transpose", [latent_BTD], perm=[0, 2, 1]), config["num_decoder_blocks"])
    hop = config["hop_samples"] // config["synthesis_frames"]
    of_a_frame = 2 * ((OVERLAPS + 1) * hop // 2 + 1)
    spectra_BTG = op("Reshape", [stack.linear("decoder.head", hidden_BTC), constant([0, -1, of_a_frame])])
    log_magnitude_BTF, phase_BTF = builder.ops("Split", [spectra_BTG], 2, axis=2, num_outputs=2)
    limit = constant(config["max_log_magnitude"], "float32")
    magnitude_BTF = op("Exp", [op("Min", [log_magnitude_BTF, limit])])
    real_BTF = op("Mul", [magnitude_BTF, op("Cos", [phase_BTF])])
    imaginary_BTF = op("Mul", [magnitude_BTF, op("Sin", [phase_BTF])])
    spectrum_BTG = op("Concat", [real_BTF, imaginary_BTF], axis=2)
    frames_BTN = op("MatMul", [spectrum_BTG, builder.weight("transform.weight")])
    overlap_add(builder, states, frames_BTN, hop)
