"""Reading an engine's properties from the builder's log. It replaces TensorRT's inspector, which needs a GPU.

With DETAILED verbosity the log ends with a line for each layer: its kernel's name, its inputs and constants with their
types.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto

Lines = Sequence[tuple[str, str]]
# TensorRT's names of the types that products are computed in.
_TYPES = {
    TensorProto.FLOAT: "Float", TensorProto.FLOAT16: "Half", TensorProto.BFLOAT16: "BFloat16",
    TensorProto.INT8: "Int8", TensorProto.INT4: "Int4", TensorProto.FLOAT8E4M3FN: "FP8",
}  # fmt: skip
# Nodes between a stored matrix and its product.
_PASSED = ("Cast", "DequantizeLinear", "Transpose", "Reshape", "Identity")
_LAYER = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: (?P<inputs>.*?), Constants: (?P<constants>.*?), Outputs:",
    re.M,
)
_TENSOR = re.compile(r"Dimensions: \[([\d,]+)\].*?Datatype: (\w+)")
_NO_KERNEL = ("shape_call", "signal", "wait")
_FUSED_ATTENTION = "_gemm_mha"
_PROBLEMS = ("WARNING", "ERROR", "INTERNAL_ERROR")
_KEPT = re.compile(r"Memory|Engine generation|^Layers:|^Name: |I/O Tensors|Subgraph compilation")


@dataclass(frozen=True, kw_only=True)
class EngineLog:
    """An engine's kernels, the types of its products with a constant matrix ("Int8 x Int8", input and matrix), the
    number of its attentions that are one kernel; bytes of weights and of the scratch memory that a context needs."""

    kernels: tuple[str, ...]
    products: tuple[str, ...]
    fused_attentions: int
    weight_bytes: int | None
    scratch_bytes: int | None


def read_log(lines: Lines) -> EngineLog:
    """The properties that a builder's lines state."""
    text = "\n".join(line for _, line in lines)
    layers = list(_LAYER.finditer(text))
    kernels = tuple(layer["name"] for layer in layers if layer["kind"] not in _NO_KERNEL)
    return EngineLog(
        kernels=kernels,
        products=tuple(_products(layers)),
        fused_attentions=sum(name.startswith(_FUSED_ATTENTION) for name in kernels),
        weight_bytes=_number(r"Total Weights Memory: (\d+) bytes", text),
        scratch_bytes=_number(r"Max Scratch Memory: (\d+) bytes", text),
    )


def fallbacks(path: Path, log: EngineLog, *, compare_products: bool) -> tuple[str, ...]:
    """The engine's deviations from the graph at `path`: attention that is not one kernel, products in another type."""
    model = onnx.load(path, load_external_data=False)
    found = []
    attentions = sum(node.op_type == "Attention" for node in model.graph.node)
    if log.fused_attentions < attentions:
        found.append("attention takes several kernels, as it always does in fp32")
    if compare_products:
        wanted, got = Counter(stated_products(model)), Counter(log.products)
        missing, instead = wanted - got, got - wanted
        if missing:
            found.append(f"products of {_counted(missing)} became {_counted(instead) or 'something else'}")
    return tuple(found)


def stated_products(model: onnx.ModelProto) -> Iterable[str]:
    """The types of a graph's products with a stored matrix, as `EngineLog.products` names them."""
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type not in ("MatMul", "Gemm"):
            continue
        matrix = node.input[1]
        while matrix in makers and makers[matrix].op_type in _PASSED:
            matrix = makers[matrix].input[0]
        if matrix not in stored:
            continue
        kind = _TYPES[stored[matrix]]
        is_quantized = stored[matrix] in (TensorProto.INT8, TensorProto.INT4, TensorProto.FLOAT8E4M3FN)
        x = kind if not is_quantized or _is_quantized(node.input[0], makers) else "Float"
        yield f"{x} x {kind}"


def log_text(title: str, log: EngineLog, notes: Sequence[str], lines: Lines) -> str:
    """A log to keep beside an engine: a summary, then the builder's lines about memory and layers."""
    counts = _counted(Counter(log.products))
    summary = [
        title,
        f"kernels: {len(log.kernels)}; products: {counts or 'none'}; attention in one kernel: {log.fused_attentions}",
        f"weights: {log.weight_bytes} bytes; scratch memory: {log.scratch_bytes} bytes",
        *(f"fallback: {note}" for note in notes),
        "",
    ]
    kept = [f"[{severity}] {line}" for severity, line in lines if severity in _PROBLEMS or _KEPT.search(line)]
    return "\n".join([*summary, *kept]) + "\n"


def whole_log(lines: Lines) -> str:
    """Every line, for a graph that has no engine."""
    return "\n".join(f"[{severity}] {line}" for severity, line in lines) + "\n"


def _products(layers: Iterable[re.Match[str]]) -> Iterable[str]:
    for layer in layers:
        if layer["kind"] not in ("gemm", "runtime_fusion", "correlation"):
            continue
        tensors = [(math.prod(map(int, sizes.split(","))), kind) for sizes, kind in _TENSOR.findall(layer["constants"])]
        size, matrix = max(tensors, default=(1, ""))
        if size > 1:
            inputs = re.findall(r"Datatype: (\w+)", layer["inputs"])
            # The inputs include the addend. A product has an input of the matrix's type, or it widens the matrix.
            yield f"{matrix if matrix in inputs else inputs[0]} x {matrix}"


def _is_quantized(name: str, makers: dict[str, NodeProto]) -> bool:
    maker = makers.get(name)
    return maker is not None and maker.op_type == "DequantizeLinear" and maker.input[0] in makers


def _counted(names: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(names.items()))


def _number(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text)
    return int(found[1]) if found else None
