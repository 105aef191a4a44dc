"""Graphs of the ConvNeXt codec, `unimoe.codec.convnext` (its docstring draws the architecture).

Shapes: B batch, K codebooks, T frames, L samples, J synthesis frames of a frame, N window, F bins. In the decoder, T,
N and F refer to synthesis frames once each frame has become J of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unimoe_export.graphs.builder import GraphBuilder
from unimoe_export.graphs.codecs.blocks import (
    FACTS,
    OVERLAPS,
    CausalStack,
    describe,
    overlap_add,
    read_shape,
    read_weights,
    transform_bases,
    write_encoder,
)
from unimoe_export.graphs.codecs.common import (
    CodecGraphs,
    States,
    StreamingGraph,
    dequantize,
    finish,
    quantizer_weights,
    write_weights,
)
from unimoe_runtime.codec.bundle_codec import DECODER, ENCODER
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.files.safetensors_reader import TensorFile


def write_codec(codec_dir: Path, out_dir: Path, num_codebooks: int | None = None) -> CodecGraphs:
    """Write both graphs of a folder of this kind; see `write.write_codec`."""
    config = read_shape(codec_dir)
    num_codebooks = num_codebooks or config["num_codebooks"]
    source = TensorFile(codec_dir / "model.safetensors", CheckpointError)
    codebooks_KVD = source.float32("codebooks.weight")[:num_codebooks]
    of_encoder, of_decoder = quantizer_weights(list(codebooks_KVD))
    forward_NG, _ = transform_bases(config["window_samples"])
    _, inverse_GN = transform_bases(config["window_samples"] // config["synthesis_frames"])
    encoder = read_weights(source, "encoder.") | of_encoder | {"transform.weight": forward_NG}
    decoder = read_weights(source, "decoder.") | of_decoder | {"transform.weight": inverse_GN}
    write_weights(encoder, out_dir, ENCODER)
    write_weights(decoder, out_dir, DECODER)
    decoder_graph = _decoder(out_dir, config, num_codebooks)
    return describe(config, num_codebooks, write_encoder(out_dir, config, num_codebooks), decoder_graph, FACTS)


def _decoder(out_dir: Path, config: Mapping[str, Any], num_codebooks: int) -> StreamingGraph:
    builder = GraphBuilder(DECODER, out_dir / f"{DECODER}.safetensors")
    op, constant = builder.op, builder.constant
    codes_BKT = builder.input("codes_BKT", "int64", ("B", num_codebooks, "T"))
    latent_BTD = dequantize(builder, codes_BKT, num_codebooks, config["codebook_size"])
    states = States(builder)
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
    state = states.finish()
    return finish(builder, out_dir, DECODER), state
