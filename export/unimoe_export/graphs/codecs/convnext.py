"""Graphs of our own codec, `unimoe.codec.convnext` (its docstring draws the architecture).

Transforms are products with fixed bases, so that every backend has them: a frame of N samples is four hops side by
side, the basis turns it into real and imaginary parts; on the way back each quarter of a frame is added to its hop.
The decoder's state is every convolution's left context and the samples that overlap into the next chunk.

Shapes: B batch, L samples, H hop, N window (4 H), F bins, M bands, T frames, C width, I intermediate, D latent,
K codebooks, J synthesis frames of a frame, P left context of a convolution, S what of a synthesis window reaches past
its hop. Of the decoder's frames, once they are J to one, T, H, N and F are meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from unimoe_export.graphs.builder import GraphBuilder
from unimoe_export.graphs.codecs.common import (
    TO_THE_END,
    CodecGraph,
    CodecGraphs,
    States,
    Tensors,
    dequantize,
    finish,
    last_steps,
    quantize,
    quantizer_weights,
    write_weights,
)
from unimoe_runtime.bundle.reader import TensorInfo
from unimoe_runtime.codec.bundle_codec import DECODER, ENCODER
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.files.json import read_json
from unimoe_runtime.files.safetensors_reader import TensorFile

_OVERLAPS = 3  # hops of a frame that reach into later frames; a window is four hops
_OVERLAP_GAIN = 1.5  # sum of the squared Hann window over four hops


def write_codec(codec_dir: Path, out_dir: Path, num_codebooks: int | None = None) -> CodecGraphs:
    """Write both graphs of a folder of our codec; see `codec.write_codec`."""
    config = read_json(codec_dir / "config.json", CheckpointError)
    if config["window_samples"] != (_OVERLAPS + 1) * config["hop_samples"]:
        raise CheckpointError(f"{codec_dir}/config.json: window_samples must be four times hop_samples")
    config = {"synthesis_frames": 1, **config}
    frames = config["synthesis_frames"]
    if not isinstance(frames, int) or frames < 1 or config["hop_samples"] % frames:
        raise CheckpointError(
            f"{codec_dir}/config.json: synthesis_frames must be a whole number that divides hop_samples"
        )
    num_codebooks = num_codebooks or config["num_codebooks"]
    source = TensorFile(codec_dir / "model.safetensors", CheckpointError)
    codebooks_KVD = source.float32("codebooks.weight")[:num_codebooks]
    of_encoder, of_decoder = quantizer_weights(list(codebooks_KVD))
    forward_NG, _ = transform_bases(config["window_samples"])
    _, inverse_GN = transform_bases(config["window_samples"] // config["synthesis_frames"])
    encoder = _weights(source, "encoder.") | of_encoder | {"transform.weight": forward_NG}
    decoder = _weights(source, "decoder.") | of_decoder | {"transform.weight": inverse_GN}
    write_weights(encoder, out_dir, ENCODER)
    write_weights(decoder, out_dir, DECODER)
    graph, state = _decoder(out_dir, config, num_codebooks)
    return CodecGraphs(
        kind="convnext",
        sample_rate_hz=config["sample_rate_hz"],
        hop_samples=config["hop_samples"],
        num_codebooks=num_codebooks,
        codebook_size=config["codebook_size"],
        encoder=_encoder(out_dir, config, num_codebooks),
        decoder=graph,
        decoder_state=state,
        facts={name: config[name] for name in ("norm_eps", "band_floor", "max_log_magnitude", "synthesis_frames")},
    )


def transform_bases(window: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The windowed transform [N, 2F] and its windowed inverse [2F, N]; real parts, then imaginary ones.

    The Hann window lies on both sides; the inverse divides by N and by the windows' overlap.
    """
    samples_N, bins_F = np.arange(window), np.arange(window // 2 + 1)
    hann_N = 0.5 - 0.5 * np.cos(2 * np.pi * samples_N / window)
    angle_NF = 2 * np.pi * (np.outer(samples_N, bins_F) % window) / window
    basis_NG = hann_N[:, None] * np.concatenate([np.cos(angle_NF), -np.sin(angle_NF)], axis=1)
    twice_F = np.where((bins_F == 0) | (bins_F == window // 2), 1.0, 2.0)  # a bin stands for its mirror image as well
    inverse_GN = basis_NG.T * np.tile(twice_F, 2)[:, None] / (window * _OVERLAP_GAIN)
    return basis_NG.astype(np.float32), np.ascontiguousarray(inverse_GN, dtype=np.float32)


def _weights(source: TensorFile, prefix: str) -> Tensors:
    """One side's tensors: linear weights as [in, out], a block's scale folded into its last product."""
    tensors: Tensors = {}
    for name in source.entries:
        if not name.startswith(prefix) or name.endswith(".scale"):
            continue
        values = source.float32(name)
        if ".contract." in name:
            scale_C = source.float32(name[: name.index("contract.")] + "scale")
            values = (values.T * scale_C).T
        linear = name.endswith(("expand.weight", "contract.weight", "project.weight", "head.weight"))
        tensors[name] = np.ascontiguousarray(values.T if linear else values)
    return tensors


def _encoder(out_dir: Path, config: Mapping[str, Any], num_codebooks: int) -> CodecGraph:
    builder = GraphBuilder(ENCODER, out_dir / f"{ENCODER}.safetensors")
    op, constant = builder.op, builder.constant
    pcm_BL = builder.input("pcm_BL", "float32", ("B", "L"))
    hops_BTH = op("Reshape", [pcm_BL, constant([0, -1, config["hop_samples"]])])
    padded_BTH = op("Pad", [hops_BTH, constant([0, 0, 0, 0, _OVERLAPS, 0])])
    quarters = [_rows(builder, padded_BTH, q, q - _OVERLAPS or TO_THE_END) for q in range(_OVERLAPS + 1)]
    frames_BTN = op("Concat", quarters, axis=2)
    spectrum_BTG = op("MatMul", [frames_BTN, builder.weight("transform.weight")])
    real_BTF, imaginary_BTF = builder.ops("Split", [op("Mul", [spectrum_BTG, spectrum_BTG])], 2, axis=2, num_outputs=2)
    magnitude_BTF = op("Sqrt", [op("Add", [real_BTF, imaginary_BTF])])
    bands_BTM = op("MatMul", [magnitude_BTF, builder.weight("encoder.bands.weight")])
    features_BTM = op("Log", [op("Max", [bands_BTM, constant(config["band_floor"], "float32")])])
    stack = _Stack(builder, "encoder", config)
    hidden_BTC = stack.run(op("Transpose", [features_BTM], perm=[0, 2, 1]), config["num_encoder_blocks"])
    codes_BKT = quantize(builder, stack.linear("encoder.project", hidden_BTC), num_codebooks)
    builder.output(codes_BKT, "codes_BKT", "int64", ("B", num_codebooks, "T"))
    return finish(builder, out_dir, ENCODER)


def _decoder(out_dir: Path, config: Mapping[str, Any], num_codebooks: int) -> tuple[CodecGraph, tuple[TensorInfo, ...]]:
    builder = GraphBuilder(DECODER, out_dir / f"{DECODER}.safetensors")
    op, constant = builder.op, builder.constant
    codes_BKT = builder.input("codes_BKT", "int64", ("B", num_codebooks, "T"))
    latent_BTD = dequantize(builder, codes_BKT, num_codebooks, config["codebook_size"])
    stack = _Stack(builder, "decoder", config, streaming=True)
    hidden_BTC = stack.run(op("Transpose", [latent_BTD], perm=[0, 2, 1]), config["num_decoder_blocks"])
    hop = config["hop_samples"] // config["synthesis_frames"]
    of_a_frame = 2 * ((_OVERLAPS + 1) * hop // 2 + 1)
    spectra_BTG = op("Reshape", [stack.linear("decoder.head", hidden_BTC), constant([0, -1, of_a_frame])])
    log_magnitude_BTF, phase_BTF = builder.ops("Split", [spectra_BTG], 2, axis=2, num_outputs=2)
    limit = constant(config["max_log_magnitude"], "float32")
    magnitude_BTF = op("Exp", [op("Min", [log_magnitude_BTF, limit])])
    real_BTF = op("Mul", [magnitude_BTF, op("Cos", [phase_BTF])])
    imaginary_BTF = op("Mul", [magnitude_BTF, op("Sin", [phase_BTF])])
    spectrum_BTG = op("Concat", [real_BTF, imaginary_BTF], axis=2)
    frames_BTN = op("MatMul", [spectrum_BTG, builder.weight("transform.weight")])
    _overlap_add(builder, stack.states, frames_BTN, hop)
    state = stack.states.finish()
    return finish(builder, out_dir, DECODER), state


def _overlap_add(builder: GraphBuilder, states: States, frames_BTN: ir.Value, hop: int) -> None:
    """pcm_BL of frames: quarter q of frame t belongs to hop t + q; what reaches past the last frame is state."""
    op, constant = builder.op, builder.constant
    overlap_BS = states.add("overlap_BS", (_OVERLAPS * hop,))
    quarters = builder.ops("Split", [frames_BTN], _OVERLAPS + 1, axis=2, num_outputs=_OVERLAPS + 1)
    padded = [op("Pad", [quarter, constant([0, q, 0, 0, _OVERLAPS - q, 0])]) for q, quarter in enumerate(quarters)]
    hops_BTH = padded[0]
    for quarter in padded[1:]:
        hops_BTH = op("Add", [hops_BTH, quarter])
    earlier_B3H = op("Reshape", [overlap_BS, constant([0, _OVERLAPS, hop])])
    begun_B3H = op("Add", [_rows(builder, hops_BTH, 0, _OVERLAPS), earlier_B3H])
    hops_BTH = op("Concat", [begun_B3H, _rows(builder, hops_BTH, _OVERLAPS, TO_THE_END)], axis=1)
    pcm_BL = op("Reshape", [_rows(builder, hops_BTH, 0, -_OVERLAPS), constant([0, -1])])
    builder.output(pcm_BL, "pcm_BL", "float32", ("B", "L"))
    later_B3H = _rows(builder, hops_BTH, -_OVERLAPS, TO_THE_END)
    states.carry("overlap_BS", op("Reshape", [later_B3H, constant([0, -1])]))


def _rows(builder: GraphBuilder, x_BTH: ir.Value, start: int, end: int) -> ir.Value:
    constant = builder.constant
    return builder.op("Slice", [x_BTH, constant([start]), constant([end]), constant([1])])


class _Stack:
    """Embedding convolution, ConvNeXt blocks and norms of one side, causal; with state where it streams."""

    def __init__(self, builder: GraphBuilder, side: str, config: Mapping[str, Any], *, streaming: bool = False) -> None:
        self._builder = builder
        self._side = side
        self._context = config["kernel_size"] - 1
        self._epsilon = config["norm_eps"]
        self._streaming = streaming
        self.states = States(builder)

    def run(self, x_BCT: ir.Value, num_blocks: int) -> ir.Value:
        """The last norm's hidden_BTC."""
        op = self._builder.op
        hidden_BCT = self._conv(f"{self._side}.embed", x_BCT, "embed_context_BDP", group=1)
        hidden_BTC = self._norm(f"{self._side}.embed_norm", op("Transpose", [hidden_BCT], perm=[0, 2, 1]))
        for index in range(num_blocks):
            prefix = f"{self._side}.blocks.{index}"
            x_BCT = op("Transpose", [hidden_BTC], perm=[0, 2, 1])
            weight = self._builder.weight(f"{prefix}.depthwise.weight")
            assert weight.shape is not None  # weights come with their shapes
            mixed_BCT = self._conv(
                f"{prefix}.depthwise", x_BCT, f"block_{index}_context_BCP", group=int(weight.shape.numpy()[0])
            )
            y_BTC = self._norm(f"{prefix}.norm", op("Transpose", [mixed_BCT], perm=[0, 2, 1]))
            y_BTI = op("Gelu", [self.linear(f"{prefix}.expand", y_BTC)])
            hidden_BTC = op("Add", [hidden_BTC, self.linear(f"{prefix}.contract", y_BTI)])
        return self._norm(f"{self._side}.norm", hidden_BTC)

    def linear(self, name: str, x: ir.Value) -> ir.Value:
        product = self._builder.op("MatMul", [x, self._builder.weight(f"{name}.weight")])
        return self._builder.op("Add", [product, self._builder.weight(f"{name}.bias")])

    def _norm(self, name: str, x: ir.Value) -> ir.Value:
        weights = [self._builder.weight(f"{name}.{part}") for part in ("weight", "bias")]
        return self._builder.op("LayerNormalization", [x, *weights], axis=-1, epsilon=self._epsilon)

    def _conv(self, name: str, x_BCT: ir.Value, state_name: str, group: int) -> ir.Value:
        op = self._builder.op
        weights = [self._builder.weight(f"{name}.{part}") for part in ("weight", "bias")]
        if not self._streaming:
            return op("Conv", [x_BCT, *weights], group=group, pads=[self._context, 0])
        shape = weights[0].shape
        assert shape is not None  # weights come with their shapes
        context_BCP = self.states.add(state_name, (int(shape.numpy()[1]) * group, self._context))
        joined_BCT = op("Concat", [context_BCP, x_BCT], axis=2)
        self.states.carry(state_name, last_steps(self._builder, joined_BCT, self._context))
        return op("Conv", [joined_BCT, *weights], group=group)
