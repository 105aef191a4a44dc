"""Graphs of EnCodec 24 kHz (arXiv:2210.13438), written from the folded weights that `import_encodec` stores.

The model pads every convolution on the left by reflection. In a stream only the beginning is reflected; later
chunks continue from the last samples of the previous chunk, and LSTMs from their state. So the decoder's state holds
each convolution's left context, each transposed convolution's last input, the LSTMs' states, and `started`, 0 in
the first chunk: the initial state is zeros. Reflection looks ahead: the first chunk must have `kernel` frames of the
decoder's first convolution (7), or be the complete audio.

ELU is written as basic operators, because TensorRT does not parse ELU and LSTM in one graph.

Shapes: B batch, C channels, L samples, K codebooks, T frames or time steps, D width of a code, H width of an LSTM.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from unimoe_export.graphs.builder import GraphBuilder
from unimoe_export.graphs.codecs.common import (
    CodecGraph,
    CodecGraphs,
    States,
    StreamingGraph,
    Tensors,
    dequantize,
    finish,
    last_steps,
    quantize,
    quantizer_weights,
    write_weights,
)
from unimoe_runtime.codec.bundle_codec import DECODER, ENCODER
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.files.json import read_json
from unimoe_runtime.files.safetensors_reader import TensorFile


def write_codec(codec_dir: Path, out_dir: Path, num_codebooks: int | None = None) -> CodecGraphs:
    """Write both graphs of an EnCodec folder; see `write.write_codec`."""
    config = read_json(codec_dir / "config.json", CheckpointError)
    num_codebooks = num_codebooks or config["num_codebooks"]
    source = TensorFile(codec_dir / "model.safetensors", CheckpointError)
    ratios: list[int] = config["ratios"]
    codebooks = [source.float32(f"quantizer.vq.layers.{index}._codebook.embed") for index in range(num_codebooks)]
    of_encoder, of_decoder = quantizer_weights(codebooks)
    write_weights(_weights(source, "encoder.") | of_encoder, out_dir, ENCODER)
    write_weights(_weights(source, "decoder.") | of_decoder, out_dir, DECODER)
    decoder, state = _decoder(out_dir, ratios, num_codebooks, len(codebooks[0]))
    return CodecGraphs(
        kind="encodec",
        sample_rate_hz=config["sample_rate_hz"],
        hop_samples=int(np.prod(ratios)),
        num_codebooks=num_codebooks,
        codebook_size=len(codebooks[0]),
        encoder=_encoder(out_dir, ratios, num_codebooks),
        decoder=decoder,
        decoder_state=state,
        min_first_frames=source.entries["decoder.model.0.conv.conv.weight"].shape[2],
    )


def _weights(source: TensorFile, prefix: str) -> Tensors:
    """The tensors of one side, LSTMs in ONNX's form: gates i, o, f, c (torch: i, f, c, o), both biases in one."""
    tensors: Tensors = {}
    for name in source.entries:
        if not name.startswith(prefix):
            continue
        if ".lstm." not in name:
            tensors[name] = source.float32(name)
        elif ".lstm.weight_" in name:
            tensors[name] = _onnx_gates(source.float32(name))[None]
        elif ".lstm.bias_ih_" in name:
            other = name.replace("bias_ih", "bias_hh")
            both = [_onnx_gates(source.float32(bias)) for bias in (name, other)]
            tensors[name.replace("bias_ih", "bias")] = np.concatenate(both)[None]
    return tensors


def _onnx_gates(array: NDArray[np.float32]) -> NDArray[np.float32]:
    i, f, c, o = np.split(array, 4)
    return np.concatenate([i, o, f, c])


def _encoder(out_dir: Path, ratios: list[int], num_codebooks: int) -> CodecGraph:
    builder = GraphBuilder(ENCODER, out_dir / f"{ENCODER}.safetensors")
    net = _Seanet(builder, min_length=int(np.prod(ratios)))
    pcm_BL = builder.input("pcm_BL", "float32", ("B", "L"))
    hidden_BCT = builder.op("Unsqueeze", [pcm_BL, builder.constant([1])])
    hidden_BCT = net.conv("encoder.model.0", hidden_BCT)
    position = 1
    for ratio in reversed(ratios):
        hidden_BCT = net.residual(f"encoder.model.{position}", hidden_BCT)
        hidden_BCT = net.conv(f"encoder.model.{position + 2}", net.elu(hidden_BCT), stride=ratio)
        position += 3
    hidden_BCT = net.lstm(f"encoder.model.{position}", hidden_BCT)
    frames_BDT = net.conv(f"encoder.model.{position + 2}", net.elu(hidden_BCT))
    frames_BTD = builder.op("Transpose", [frames_BDT], perm=[0, 2, 1])
    codes_BKT = quantize(builder, frames_BTD, num_codebooks)
    builder.output(codes_BKT, "codes_BKT", "int64", ("B", num_codebooks, "T"))
    return finish(builder, out_dir, ENCODER)


def _decoder(out_dir: Path, ratios: list[int], num_codebooks: int, codebook_size: int) -> StreamingGraph:
    builder = GraphBuilder(DECODER, out_dir / f"{DECODER}.safetensors")
    codes_BKT = builder.input("codes_BKT", "int64", ("B", num_codebooks, "T"))
    frames_BTD = dequantize(builder, codes_BKT, num_codebooks, codebook_size)
    net = _Seanet(builder, min_length=1, streaming=True)
    hidden_BCT = net.conv("decoder.model.0", builder.op("Transpose", [frames_BTD], perm=[0, 2, 1]))
    hidden_BCT = net.lstm("decoder.model.1", hidden_BCT)
    position = 3
    for ratio in ratios:
        hidden_BCT = net.transposed(f"decoder.model.{position}", net.elu(hidden_BCT), ratio)
        hidden_BCT = net.residual(f"decoder.model.{position + 1}", hidden_BCT)
        position += 3
    pcm_B1L = net.conv(f"decoder.model.{position}", net.elu(hidden_BCT))
    builder.output(builder.op("Squeeze", [pcm_B1L, builder.constant([1])]), "pcm_BL", "float32", ("B", "L"))
    state = net.states.finish()
    return finish(builder, out_dir, DECODER), state


class _Seanet:
    """The layers of SEANet. `min_length` tracks the smallest number of time steps that a layer can receive."""

    def __init__(self, builder: GraphBuilder, *, min_length: int, streaming: bool = False) -> None:
        self._builder = builder
        self._min_length = min_length
        self._streaming = streaming
        self.states = States(builder)
        if streaming:
            started_B11 = self.states.add("started_B11", (1, 1))
            self._is_started = builder.op("Greater", [started_B11, builder.constant(0.0, "float32")])
            self.states.carry("started_B11", builder.op("Max", [started_B11, builder.constant(1.0, "float32")]))

    def elu(self, x: ir.Value) -> ir.Value:
        """max(x, exp(min(x, 0)) - 1): ONNX Runtime runs the decoder in 30 % less time than with a Where."""
        op, constant = self._builder.op, self._builder.constant
        negative = op("Exp", [op("Min", [x, constant(0.0, "float32")])])
        return op("Max", [x, op("Sub", [negative, constant(1.0, "float32")])])

    def conv(self, name: str, x_BCT: ir.Value, stride: int = 1) -> ir.Value:
        """Causal convolution: kernel - stride samples of left context, reflected at the beginning."""
        weight = self._builder.weight(f"{name}.conv.conv.weight")
        bias = self._builder.weight(f"{name}.conv.conv.bias")
        _, channels, kernel = _static_shape(weight)
        if kernel > stride:
            x_BCT = self._with_context(name, x_BCT, channels, kernel - stride)
        self._min_length //= stride
        return self._builder.op("Conv", [x_BCT, weight, bias], strides=[stride])

    def _with_context(self, name: str, x_BCT: ir.Value, channels: int, context: int) -> ir.Value:
        op, constant = self._builder.op, self._builder.constant
        long_enough_BCT = x_BCT
        if self._min_length <= context:  # as in the model: zeros on the right provide enough samples to reflect
            missing = context + 1 - self._min_length
            long_enough_BCT = op("Pad", [x_BCT, constant([0, 0, 0, 0, 0, missing])])
        left_BCT = op("Gather", [long_enough_BCT, constant(np.arange(context, 0, -1))], axis=2)
        if self._streaming:
            state_name = f"context_{_identifier(name)}_BCT"
            context_BCT = self.states.add(state_name, (channels, context))
            left_BCT = op("Where", [self._is_started, context_BCT, left_BCT])
        whole_BCT = op("Concat", [left_BCT, x_BCT], axis=2)
        if self._streaming:
            self.states.carry(state_name, last_steps(self._builder, whole_BCT, context))
        return whole_BCT

    def transposed(self, name: str, x_BCT: ir.Value, stride: int) -> ir.Value:
        """Transposed convolution of kernel 2 · stride, cut off at the right: each output sees one input back."""
        weight = self._builder.weight(f"{name}.convtr.convtr.weight")
        bias = self._builder.weight(f"{name}.convtr.convtr.bias")
        state_name = f"last_{_identifier(name)}_BC1"
        last_BC1 = self.states.add(state_name, (_static_shape(weight)[0], 1))
        whole_BCT = self._builder.op("Concat", [last_BC1, x_BCT], axis=2)
        self.states.carry(state_name, last_steps(self._builder, whole_BCT, 1))
        self._min_length *= stride
        return self._builder.op("ConvTranspose", [whole_BCT, weight, bias], strides=[stride], pads=[stride, stride])

    def residual(self, name: str, x_BCT: ir.Value) -> ir.Value:
        shortcut_BCT = self.conv(f"{name}.shortcut", x_BCT)
        hidden_BCT = self.conv(f"{name}.block.1", self.elu(x_BCT))
        return self._builder.op("Add", [shortcut_BCT, self.conv(f"{name}.block.3", self.elu(hidden_BCT))])

    def lstm(self, name: str, x_BCT: ir.Value) -> ir.Value:
        """The stack of LSTMs, with its input added to its output."""
        op, constant, weight = self._builder.op, self._builder.constant, self._builder.weight
        x_TBC = op("Transpose", [x_BCT], perm=[2, 0, 1])
        hidden_TBH = x_TBC
        layer = 0
        while self._builder.has_weight(f"{name}.lstm.weight_ih_l{layer}"):
            weights = [weight(f"{name}.lstm.{part}_l{layer}") for part in ("weight_ih", "weight_hh", "bias")]
            width = _static_shape(weights[1])[2]
            names = [f"lstm_{layer}_{part}_B1H" for part in ("hidden", "cell")] if self._streaming else []
            initial = [op("Transpose", [self.states.add(state, (1, width))], perm=[1, 0, 2]) for state in names]
            inputs = [hidden_TBH, *weights, *([None, *initial] if initial else [])]
            outputs = self._builder.ops("LSTM", inputs, 3, hidden_size=width)
            for state, value in zip(names, outputs[1:], strict=False):
                self.states.carry(state, op("Transpose", [value], perm=[1, 0, 2]))
            hidden_TBH = op("Squeeze", [outputs[0], constant([1])])
            layer += 1
        return op("Transpose", [op("Add", [hidden_TBH, x_TBC])], perm=[1, 2, 0])


def _static_shape(value: ir.Value) -> tuple[Any, ...]:
    assert value.shape is not None  # weights come with their shapes
    return tuple(value.shape.numpy())


def _identifier(name: str) -> str:
    """A layer's name within the decoder: decoder.model.4.block.1 becomes 4_block_1."""
    return name.removeprefix("decoder.model.").replace(".", "_")
