"""Graphs of the codec: one entry point for every kind of codec, and the residual quantizer that all of them share.

    codec_encoder   pcm_BL -> codes_BKT               complete audio in one call, L a multiple of the hop
    codec_decoder   codes_BKT, state -> pcm_BL, state a chunk in each call; the initial state is zeros

Shapes: B batch, L samples, K codebooks, T frames, V codes of a codebook, D width of a code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from unimoe_export.graphs.builder import GraphBuilder
from unimoe_runtime.bundle.reader import TensorInfo
from unimoe_runtime.files.safetensors_writer import write_tensors

TO_THE_END = np.iinfo(np.int64).max
Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class CodecGraph:
    """One written graph: its files, named relative to the folder, and its signature."""

    name: str
    file: str
    weights: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


StreamingGraph = tuple[CodecGraph, tuple[TensorInfo, ...]]
"""A graph, and the inputs that carry its state from call to call."""


@dataclass(frozen=True, kw_only=True)
class CodecGraphs:
    """The output of `write_codec`, and the description of the codec for the runtime (the manifest's `codec`).

    `decoder_state` are the decoder's state inputs for a batch of one; the output that continues state `x` is
    `new_x`. `min_first_frames`: the decoder's first call needs this number of frames, unless the audio has fewer.
    `context_frames`, `lookahead_frames`: frames before and after a frame that its samples depend on beside the state.
    """

    kind: str
    sample_rate_hz: int
    hop_samples: int
    num_codebooks: int
    codebook_size: int
    encoder: CodecGraph
    decoder: CodecGraph
    decoder_state: tuple[TensorInfo, ...]
    min_first_frames: int = 1
    context_frames: int = 0
    lookahead_frames: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def manifest(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "sample_rate_hz": self.sample_rate_hz,
            "hop_samples": self.hop_samples,
            "num_codebooks": self.num_codebooks,
            "codebook_size": self.codebook_size,
            "encoder_padding": "zeros at the end, up to a multiple of hop_samples",
            "min_first_frames": self.min_first_frames,
            "context_frames": self.context_frames,
            "lookahead_frames": self.lookahead_frames,
            "decoder_state": [
                {"name": state.name, "shape": [1, *state.shape[1:]], "dtype": state.dtype}
                for state in self.decoder_state
            ],
            **self.facts,
        }


class States:
    """The decoder's state: each input `x` receives a part of it, and the output `new_x` passes it to the next call."""

    def __init__(self, builder: GraphBuilder) -> None:
        self._builder = builder
        self._states: dict[str, TensorInfo] = {}
        self._inputs: dict[str, ir.Value] = {}
        self._new: dict[str, ir.Value] = {}

    def __getitem__(self, name: str) -> ir.Value:
        """The input that was added under this name."""
        return self._inputs[name]

    def add(self, name: str, shape: tuple[int, ...], dtype: Literal["float32", "int64"] = "float32") -> ir.Value:
        """A state input [B, *shape]."""
        self._states[name] = TensorInfo(name=name, dtype=dtype, shape=("B", *shape))
        self._inputs[name] = self._builder.input(name, dtype, ("B", *shape))
        return self._inputs[name]

    def carry(self, name: str, value: ir.Value) -> None:
        self._new[name] = value

    def finish(self) -> tuple[TensorInfo, ...]:
        """Declare the outputs. Call it once, after the graph's other outputs."""
        for name, state in self._states.items():
            self._builder.output(self._new[name], f"new_{name}", state.dtype, state.shape)
        return tuple(self._states.values())


def last_steps(builder: GraphBuilder, x_BCT: ir.Value, count: int) -> ir.Value:
    """The last `count` time steps."""
    bounds = [builder.constant([-count]), builder.constant([TO_THE_END]), builder.constant([2])]
    return builder.op("Slice", [x_BCT, *bounds])


def write_weights(tensors: Mapping[str, NDArray[np.float32]], out_dir: Path, name: str) -> None:
    """Write a graph's tensors to `name`.safetensors."""
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    write_tensors(out_dir / f"{name}.safetensors", shapes, lambda key: [tensors[key]])


def finish(builder: GraphBuilder, out_dir: Path, name: str) -> CodecGraph:
    """Save the graph as `name`.onnx and describe it."""
    builder.save(out_dir / f"{name}.onnx")
    return CodecGraph(
        name=name,
        file=f"{name}.onnx",
        weights=f"{name}.safetensors",
        inputs=tuple(builder.inputs),
        outputs=tuple(builder.outputs),
    )


def quantizer_weights(codebooks: Sequence[NDArray[np.float32]]) -> tuple[Tensors, Tensors]:
    """The quantizer's tensors for the encoder's file and for the decoder's, from codebooks [V, D]."""
    encoder: Tensors = {}
    for index, codebook_VD in enumerate(codebooks):
        encoder[f"codebook.{index}.weight"] = codebook_VD
        squares_V = np.square(codebook_VD, dtype=np.float64).sum(1)
        encoder[f"codebook.{index}.half_square"] = (squares_V / 2).astype(np.float32)
    return encoder, {"codebooks.weight": np.concatenate(list(codebooks))}


def quantize(builder: GraphBuilder, frames_BTD: ir.Value, num_codebooks: int) -> ir.Value:
    """codes_BKT: each stage picks the code nearest to the residual of the stages before it.

    |x - e|² is least where x·e - |e|²/2 is largest: |x|² is the same for all codes, and leaving it out also reduces
    rounding. Ties go to the lower code.
    """
    residual_BTD = frames_BTD
    codes = []
    for index in range(num_codebooks):
        codebook_VD = builder.weight(f"codebook.{index}.weight")
        transposed_DV = builder.op("Transpose", [codebook_VD], perm=[1, 0])
        product_BTV = builder.op("MatMul", [residual_BTD, transposed_DV])
        score_BTV = builder.op("Sub", [product_BTV, builder.weight(f"codebook.{index}.half_square")])
        code_BT = builder.op("ArgMax", [score_BTV], axis=-1, keepdims=0)
        codes.append(builder.op("Unsqueeze", [code_BT, builder.constant([1])]))
        if index + 1 < num_codebooks:
            nearest_BTD = builder.op("Gather", [codebook_VD, code_BT], axis=0)
            residual_BTD = builder.op("Sub", [residual_BTD, nearest_BTD])
    return builder.op("Concat", codes, axis=1)


def dequantize(builder: GraphBuilder, codes_BKT: ir.Value, num_codebooks: int, codebook_size: int) -> ir.Value:
    """frames_BTD: the sum of the codes' vectors, read from one table of all codebooks."""
    offsets_K1 = builder.constant(np.arange(num_codebooks)[:, None] * codebook_size)
    rows_BKT = builder.op("Add", [codes_BKT, offsets_K1])
    vectors_BKTD = builder.op("Gather", [builder.weight("codebooks.weight"), rows_BKT], axis=0)
    return builder.op("ReduceSum", [vectors_BKTD, builder.constant([1])], keepdims=0)
