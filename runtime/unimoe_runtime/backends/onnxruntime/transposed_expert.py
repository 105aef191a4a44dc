"""Experts whose products are transposed, outᵀ = weightᵀ · inᵀ, so that one session runs them all: weights are inputs.

ONNX Runtime's product packs its right operand, which is the weight in x · weight. It packs an input at every run, and
an initializer once, when the session is made, which takes as long as dozens of runs. The left operand is read in
place. So here the weight is the left operand, and loading an expert copies its transpose into a buffer.

The bits are those of x · weight with a packed weight. There (MLAS: sgemm.cpp, MlasSgemmPackedOperation) a sum runs
in order over 256 products at a time, and these partial sums are added in order. Transposed, the sums of up to 64
tokens over up to 256 products run at once, in the same order; longer sums are written as several products here. A
single token would take another path (a matrix times a vector), so it is computed twice. `expert_loader` compares the
bits before it relies on them.

N tokens · C hidden · I intermediate size
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from unimoe_runtime.backends.onnxruntime.huge_pages import PRIVATE
from unimoe_runtime.backends.onnxruntime.onnx_proto import float_scalar, integers, model, node
from unimoe_runtime.backends.onnxruntime.passes import Buffers
from unimoe_runtime.backends.protocol import Array
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.files.safetensors_reader import TensorFile, widen

_BLOCK = 256
_MOST_TOKENS = 64
_GATE_UP, _DOWN = "gate_up.weight", "down.weight"
_OUTPUT = "new_accumulator_NC"


def transposed_graph(config: ModelConfig, *, one_token: bool) -> bytes:
    """The ONNX model of an expert (its inputs, then its transposed weights); with `one_token` for N = 1 only.

    gate_up.weight.i [2I, ≤ 256] and down.weight.i [C, ≤ 256]: the i-th 256 rows of the weights, transposed.
    """
    hidden, inner = config.hidden_size, config.routed_intermediate_size
    inputs: dict[str, tuple[int | str, ...]] = {
        "accumulator_NC": ("N", hidden), "expert_input_NC": ("N", hidden), "weight_N1": ("N", 1),
    }  # fmt: skip
    tokens = dict(zip(inputs, inputs, strict=True))
    inputs |= {f"{_GATE_UP}.{index}": (2 * inner, size) for index, size in enumerate(_blocks(hidden))}
    inputs |= {f"{_DOWN}.{index}": (hidden, size) for index, size in enumerate(_blocks(inner))}
    constants = [float_scalar("zero", 0.0), integers("hidden_blocks", _blocks(hidden))]
    constants.append(integers("inner_blocks", _blocks(inner)))
    nodes = []
    if one_token:
        for name in tokens:
            tokens[name] = f"{name}.twice"
            nodes.append(node("Concat", [name, name], [tokens[name]], axis=0))

    inputs_NC = [f"x.{index}" for index in range(len(_blocks(hidden)))]
    nodes.append(node("Split", [tokens["expert_input_NC"], "hidden_blocks"], inputs_NC, axis=1))
    gate_up = ""
    for index, part in enumerate(inputs_NC):
        operands = [f"{_GATE_UP}.{index}", part, *filter(None, [gate_up])]
        gate_up = f"gate_up.{index}"
        nodes.append(node("Gemm", operands, [gate_up], transB=1))
    nodes += [
        node("Split", [gate_up], ["gate", "up"], axis=0, num_outputs=2),
        node("Sigmoid", ["gate"], ["sigmoid"]),
        node("Mul", ["gate", "sigmoid"], ["silu"]),
        node("Mul", ["silu", "up"], ["inner"]),
        node("Transpose", [tokens["weight_N1"]], ["weight_1N"]),
        node("Greater", ["weight_1N", "zero"], ["picked_1N"]),
        node("Mul", ["inner", "weight_1N"], ["product"]),
        node("Where", ["picked_1N", "product", "zero"], ["weighted"]),
        node("Transpose", [tokens["accumulator_NC"]], ["accumulator_CN"]),
    ]
    inner_IN = [f"weighted.{index}" for index in range(len(_blocks(inner)))]
    nodes.append(node("Split", ["weighted", "inner_blocks"], inner_IN, axis=0))
    out = "accumulator_CN"
    for index, part in enumerate(inner_IN):
        nodes.append(node("Gemm", [f"{_DOWN}.{index}", part, out], [f"out.{index}"]))
        out = f"out.{index}"
    if one_token:
        nodes.append(node("Transpose", [out], ["out_twice"]))
        nodes.append(node("Split", ["out_twice"], [_OUTPUT, "again"], axis=0, num_outputs=2))
    else:
        nodes.append(node("Transpose", [out], [_OUTPUT]))
    return model(nodes, inputs, {_OUTPUT: ("N", hidden)}, constants)


class TransposedExpert:
    """One expert's transposed weights in its own anonymous memory, and the calls that run them.

    `sessions(one_token)` gives the session of `transposed_graph`. The memory goes back to the system with the object.
    `closed` receives an object that is no longer used, and may `fill` it with another expert.
    """

    def __init__(
        self, config: ModelConfig, sessions: Callable[[bool], Any], closed: Callable[[TransposedExpert], None]
    ) -> None:
        hidden, inner = config.hidden_size, config.routed_intermediate_size
        self._sessions, self._closed = sessions, closed
        self._parts: list[tuple[str, int, NDArray[np.float32]]] = []
        self._values: dict[str, Any] = {}
        flat, start = np.frombuffer(mmap.mmap(-1, transposed_bytes(config), **PRIVATE), np.float32), 0
        for name, rows, columns in ((_GATE_UP, 2 * inner, hidden), (_DOWN, hidden, inner)):
            for index, size in enumerate(_blocks(columns)):
                part = flat[start : start + rows * size].reshape(rows, size)
                start += part.size
                self._parts.append((name, index * _BLOCK, part))
                self._values[f"{name}.{index}"] = ort.OrtValue.ortvalue_from_numpy(part)
        self._bound: WeakKeyDictionary[Buffers, dict[int, Callable[[], None]]] = WeakKeyDictionary()

    def fill(self, tensors: TensorFile) -> None:
        """Copy an expert's weights; the file's pages are given back."""
        for name, first, part in self._parts:
            rows = tensors.raw(name)[first : first + part.shape[1]]
            np.copyto(part, widen(rows, tensors.entries[name].dtype).T)
        tensors.forget()

    def bound(self, buffers: Buffers, layer: int) -> Callable[[], None]:
        """The call that runs it on a pass's buffers."""
        sides = self._bound.setdefault(buffers, {})
        run = sides.get(layer % 2)
        if run is None:
            session = self._sessions(len(buffers.weight_N1) == 1)
            run = sides[layer % 2] = buffers.bind_expert(session, layer, self._values)
        return run

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        pieces = []
        for first in range(0, len(inputs["weight_N1"]), _MOST_TOKENS):
            piece = {
                name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array[first : first + _MOST_TOKENS]))
                for name, array in inputs.items()
            }
            session = self._sessions(piece["weight_N1"].shape()[0] == 1)
            pieces.append(session.run_with_ort_values([_OUTPUT], {**piece, **self._values})[0].numpy())
        return {_OUTPUT: np.concatenate(pieces)}

    def close(self) -> None:
        self._closed(self)


def transposed_bytes(config: ModelConfig) -> int:
    """Bytes of one expert's transposed weights."""
    return 4 * 3 * config.hidden_size * config.routed_intermediate_size


def _blocks(count: int) -> list[int]:
    return [min(_BLOCK, count - start) for start in range(0, count, _BLOCK)]
