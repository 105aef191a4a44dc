"""Graphs of the Descript Audio Codec (`unimoe_runtime.codec.dac_config` draws the architecture).

None of its layers is causal, so the decoder has no state. It decodes a window of frames; the runtime adds surrounding
frames to the wanted ones (`context_frames` before, `lookahead_frames` after) and crops the result.

Shapes: B batch, C channels, L samples, K codebooks, T frames or time steps, D width of the latent, W width of a code,
V codes of a codebook, E = K · W.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from unimoe_export.graphs.builder import GraphBuilder
from unimoe_export.graphs.codecs.common import CodecGraph, CodecGraphs, Tensors, finish, write_weights
from unimoe_runtime.codec.bundle_codec import DECODER, ENCODER
from unimoe_runtime.codec.dac_config import DILATIONS, KERNEL, DacConfig, check_shapes, half, tensor_shapes
from unimoe_runtime.errors import CheckpointError, ConfigError
from unimoe_runtime.files.json import read_json
from unimoe_runtime.files.safetensors_reader import TensorFile

_SNAKE_EPSILON = 1e-9
_NORM_EPSILON = 1e-12
Read = Callable[[str], NDArray[np.float32]]


def write_codec(codec_dir: Path, out_dir: Path, num_codebooks: int | None = None) -> CodecGraphs:
    """Write both graphs of a folder of this kind; see `write.write_codec`."""
    try:
        config = DacConfig.from_dict(read_json(codec_dir / "config.json", CheckpointError))
    except ConfigError as error:
        raise CheckpointError(f"{codec_dir}/config.json: {error}") from None
    source = TensorFile(codec_dir / "model.safetensors", CheckpointError)
    found = {name: entry.shape for name, entry in source.entries.items()}
    check_shapes(source.path, tensor_shapes(config), found)
    return _write(config, source.float32, out_dir, num_codebooks or config.num_codebooks)


def _write(config: DacConfig, read: Read, out_dir: Path, num_codebooks: int) -> CodecGraphs:
    of_encoder, of_decoder = _quantizer_weights(read, num_codebooks)
    names = tensor_shapes(config)
    for graph, prefix, of_quantizer in ((ENCODER, "encoder.", of_encoder), (DECODER, "decoder.", of_decoder)):
        own = [name for name in names if name.startswith(prefix)]
        write_weights(_weights(read, own) | of_quantizer, out_dir, graph)
    context_frames, lookahead_frames = config.frames_around
    return CodecGraphs(
        kind=config.kind,
        sample_rate_hz=config.sample_rate_hz,
        hop_samples=config.hop_samples,
        num_codebooks=num_codebooks,
        codebook_size=config.codebook_size,
        encoder=_encoder(out_dir, config, num_codebooks),
        decoder=_decoder(out_dir, config, num_codebooks),
        decoder_state=(),
        context_frames=context_frames,
        lookahead_frames=lookahead_frames,
        facts={name: list(getattr(config, name)) for name in ("encoder_strides", "decoder_strides")},
    )


def _weights(read: Read, names: list[str]) -> Tensors:
    """One side's tensors unchanged, and beside each snake's `alpha` its `gain`, 1 / alpha."""
    tensors: Tensors = {}
    for name in names:
        tensors[name] = read(name)
        if name.endswith(".alpha"):
            tensors[name.removesuffix("alpha") + "gain"] = np.float32(1) / (read(name) + np.float32(_SNAKE_EPSILON))
    return tensors


def _quantizer_weights(read: Read, num_codebooks: int) -> tuple[Tensors, Tensors]:
    """The quantizer's tensors, projections as [in, out]; in the decoder one product sums over all codebooks."""
    encoder: Tensors = {}
    codebooks, projections, biases = [], [], []
    for index in range(num_codebooks):
        source, name = f"quantizer.quantizers.{index}", f"codebook.{index}"
        codes_VW = read(f"{source}.codebook.weight")
        norm_V1 = np.sqrt(np.square(codes_VW, dtype=np.float64).sum(1, keepdims=True))
        directions_VW = (codes_VW / np.maximum(norm_V1, _NORM_EPSILON)).astype(np.float32)
        encoder[f"{name}.in.weight"] = np.ascontiguousarray(read(f"{source}.in_proj.weight")[:, :, 0].T)
        encoder[f"{name}.in.bias"] = read(f"{source}.in_proj.bias")
        encoder[f"{name}.directions"] = np.ascontiguousarray(directions_VW.T)
        encoder[f"{name}.half_square"] = (np.square(directions_VW, dtype=np.float64).sum(1) / 2).astype(np.float32)
        codebooks.append(codes_VW)
        projections.append(np.ascontiguousarray(read(f"{source}.out_proj.weight")[:, :, 0].T))
        biases.append(read(f"{source}.out_proj.bias"))
        if index + 1 < num_codebooks:
            encoder[f"{name}.codes"] = codes_VW
            encoder[f"{name}.out.weight"], encoder[f"{name}.out.bias"] = projections[-1], biases[-1]
    return encoder, {
        "codebooks.weight": np.concatenate(codebooks),
        "codebooks.out.weight": np.concatenate(projections),
        "codebooks.out.bias": np.sum(biases, axis=0, dtype=np.float32),
    }


def _encoder(out_dir: Path, config: DacConfig, num_codebooks: int) -> CodecGraph:
    builder = GraphBuilder(ENCODER, out_dir / f"{ENCODER}.safetensors")
    net = _Net(builder)
    pcm_BL = builder.input("pcm_BL", "float32", ("B", "L"))
    hidden_BCT = net.conv("encoder.block.0", builder.op("Unsqueeze", [pcm_BL, builder.constant([1])]))
    for index, stride in enumerate(config.encoder_strides, 1):
        block = f"encoder.block.{index}.block"
        hidden_BCT = net.snake(f"{block}.3", net.units(block, 0, hidden_BCT))
        hidden_BCT = net.conv(f"{block}.4", hidden_BCT, stride=stride, padding=half(stride))
    end = len(config.encoder_strides) + 1
    latent_BDT = net.conv(f"encoder.block.{end + 1}", net.snake(f"encoder.block.{end}", hidden_BCT), padding=1)
    codes_BKT = _quantize(builder, builder.op("Transpose", [latent_BDT], perm=[0, 2, 1]), num_codebooks)
    builder.output(codes_BKT, "codes_BKT", "int64", ("B", num_codebooks, "T"))
    return finish(builder, out_dir, ENCODER)


def _decoder(out_dir: Path, config: DacConfig, num_codebooks: int) -> CodecGraph:
    builder = GraphBuilder(DECODER, out_dir / f"{DECODER}.safetensors")
    op, constant = builder.op, builder.constant
    net = _Net(builder)
    codes_BKT = builder.input("codes_BKT", "int64", ("B", num_codebooks, "T"))
    latent_BTD = _dequantize(builder, codes_BKT, num_codebooks, config.codebook_size)
    hidden_BCT = net.conv("decoder.model.0", op("Transpose", [latent_BTD], perm=[0, 2, 1]))
    for index, stride in enumerate(config.decoder_strides, 1):
        block = f"decoder.model.{index}.block"
        hidden_BCT = net.transposed(f"{block}.1", net.snake(f"{block}.0", hidden_BCT), stride)
        hidden_BCT = net.units(block, 2, hidden_BCT)
    end = len(config.decoder_strides) + 1
    pcm_B1L = op("Tanh", [net.conv(f"decoder.model.{end + 1}", net.snake(f"decoder.model.{end}", hidden_BCT))])
    pcm_BL = op("Squeeze", [pcm_B1L, constant([1])])
    if config.missing_samples:  # every other part takes a frame for a hop: pad the end with silence
        pcm_BL = op("Pad", [pcm_BL, constant([0, 0, 0, config.missing_samples])])
    builder.output(pcm_BL, "pcm_BL", "float32", ("B", "L"))
    return finish(builder, out_dir, DECODER)


def _quantize(builder: GraphBuilder, residual_BTD: ir.Value, num_codebooks: int) -> ir.Value:
    """codes_BKT: each stage picks the code of the nearest direction; ties go to the lower code."""
    op, weight = builder.op, builder.weight
    codes = []
    for index in range(num_codebooks):
        name = f"codebook.{index}"
        found_BTW = op("Add", [op("MatMul", [residual_BTD, weight(f"{name}.in.weight")]), weight(f"{name}.in.bias")])
        norm_BT1 = op("ReduceL2", [found_BTW, builder.constant([-1])], keepdims=1)
        unit_BTW = op("Div", [found_BTW, op("Max", [norm_BT1, builder.constant(_NORM_EPSILON, "float32")])])
        product_BTV = op("MatMul", [unit_BTW, weight(f"{name}.directions")])
        code_BT = op("ArgMax", [op("Sub", [product_BTV, weight(f"{name}.half_square")])], axis=-1, keepdims=0)
        codes.append(op("Unsqueeze", [code_BT, builder.constant([1])]))
        if index + 1 < num_codebooks:
            code_BTW = op("Gather", [weight(f"{name}.codes"), code_BT], axis=0)
            vector_BTD = op("MatMul", [code_BTW, weight(f"{name}.out.weight")])
            residual_BTD = op("Sub", [residual_BTD, op("Add", [vector_BTD, weight(f"{name}.out.bias")])])
    return op("Concat", codes, axis=1)


def _dequantize(builder: GraphBuilder, codes_BKT: ir.Value, num_codebooks: int, codebook_size: int) -> ir.Value:
    """latent_BTD: the codes of all codebooks side by side; one product projects them up and sums them."""
    op, weight, constant = builder.op, builder.weight, builder.constant
    rows_BTK = op(
        "Add", [op("Transpose", [codes_BKT], perm=[0, 2, 1]), constant(np.arange(num_codebooks) * codebook_size)]
    )
    codes_BTKW = op("Gather", [weight("codebooks.weight"), rows_BTK], axis=0)
    codes_BTE = op("Reshape", [codes_BTKW, constant([0, 0, -1])])
    return op("Add", [op("MatMul", [codes_BTE, weight("codebooks.out.weight")]), weight("codebooks.out.bias")])


class _Net:
    """The layers of both sides; every convolution is centred."""

    def __init__(self, builder: GraphBuilder) -> None:
        self._builder = builder

    def conv(
        self, name: str, x_BCT: ir.Value, *, stride: int = 1, dilation: int = 1, padding: int = KERNEL // 2
    ) -> ir.Value:
        weights = [self._builder.weight(f"{name}.{part}") for part in ("weight", "bias")]
        return self._builder.op(
            "Conv", [x_BCT, *weights], strides=[stride], dilations=[dilation], pads=[padding, padding]
        )

    def transposed(self, name: str, x_BCT: ir.Value, stride: int) -> ir.Value:
        weights = [self._builder.weight(f"{name}.{part}") for part in ("weight", "bias")]
        pads = [half(stride), half(stride)]
        return self._builder.op("ConvTranspose", [x_BCT, *weights], strides=[stride], pads=pads)

    def snake(self, name: str, x_BCT: ir.Value) -> ir.Value:
        """x + sin²(alpha · x) / alpha."""
        op, weight = self._builder.op, self._builder.weight
        sine_BCT = op("Sin", [op("Mul", [x_BCT, weight(f"{name}.alpha")])])
        return op("Add", [x_BCT, op("Mul", [op("Mul", [sine_BCT, sine_BCT]), weight(f"{name}.gain")])])

    def units(self, block: str, first: int, x_BCT: ir.Value) -> ir.Value:
        """The three residual units of a block, from position `first`."""
        for position, dilation in enumerate(DILATIONS, first):
            name = f"{block}.{position}.block"
            hidden_BCT = self.snake(f"{name}.0", x_BCT)
            hidden_BCT = self.conv(f"{name}.1", hidden_BCT, dilation=dilation, padding=KERNEL // 2 * dilation)
            hidden_BCT = self.conv(f"{name}.3", self.snake(f"{name}.2", hidden_BCT), padding=0)
            x_BCT = self._builder.op("Add", [x_BCT, hidden_BCT])
        return x_BCT
