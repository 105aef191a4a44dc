"""Does TensorRT-RTX build a bundle's graphs, and in which types does it multiply? Needs no GPU.

python -m benchmarks.tensorrt_builds BUNDLE [--capability 86 89 120] [--graph NAME ...] [--json FILE]

`pip install tensorrt-rtx-cu13`. Without a GPU an engine cannot be opened, so what its products became is read from the
builder's log. All experts have one shape: by default one of them, a trunk and the head are built.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import tensorrt_rtx as trt
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unimoe_runtime.bundle import Bundle, expert_name, open_bundle, trunk_name

_CACHE_CAPACITY = 256
# Smallest, usual and largest size of a dimension: rows of a guided pair, positions of a decode step and of a prefill.
_SIZES = {"B": (1, 2, 2), "T": (1, 1, 64), "N": (1, 2, 128)}


@dataclass(frozen=True, kw_only=True)
class Build:
    """One engine. `products`: input and weight type of each product with a weight, in the engine's order, as "Int8 x
    Int8"; `problem` is the builder's reason where it made none."""

    graph: str
    precision: str
    capability: int
    num_bytes: int
    products: tuple[str, ...]
    problem: str | None


class _Log(trt.ILogger):
    """TensorRT keeps the first logger of a process for good: there is one, and it is emptied."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.lines: list[tuple[trt.ILogger.Severity, str]] = []

    def log(self, severity: trt.ILogger.Severity, message: str) -> None:
        self.lines.append((severity, message))

    def problem(self) -> str:
        errors = [text for severity, text in self.lines if severity <= trt.ILogger.Severity.ERROR]
        return errors[-1].splitlines()[0] if errors else "no engine, and no reason in the log"


_LOG = _Log()


def build(bundle: Bundle, graph: str, capability: int) -> Build:
    """Build one graph for one compute capability, such as 86."""
    _LOG.lines.clear()
    info = bundle.graph(graph)
    builder = trt.Builder(_LOG)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, _LOG)
    num_bytes, problem = 0, None
    path = bundle.path / info.file
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".onnx") as file:
        model = _fixed_capacity(path)
        onnx.save(model, file.name)
        parsed = parser.parse_from_file(file.name)
    if not parsed:
        problem = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
    else:
        _decompose_attention(network)
        engine = builder.build_serialized_network(network, _configuration(builder, network, model, capability))
        num_bytes, problem = (0, _LOG.problem()) if engine is None else (engine.nbytes, None)
    products = () if problem else tuple(_products("\n".join(text for _, text in _LOG.lines)))
    return Build(
        graph=graph, precision=info.precision, capability=capability, num_bytes=num_bytes, products=products,
        problem=problem,
    )  # fmt: skip


def _fixed_capacity(path: Path) -> onnx.ModelProto:
    """The graph over caches of one capacity: an update of a cache in place wants it known."""
    model = onnx.load(path, load_external_data=False)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param == "S":
                dimension.dim_value = _CACHE_CAPACITY
    return model


def _decompose_attention(network: trt.INetworkDefinition) -> None:
    """Allow attention without a fused kernel: not every head size has one."""
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer
            layer.attention.decomposable = True


def _configuration(
    builder: trt.Builder, network: trt.INetworkDefinition, model: onnx.ModelProto, capability: int
) -> trt.IBuilderConfig:
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability}"), 0)
    config.clear_flag(trt.BuilderFlag.TF32)  # the router is float32 proper
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    profile = builder.create_optimization_profile()
    for index, declared in enumerate(model.graph.input):
        value = network.get_input(index)
        if -1 in value.shape:
            dimensions = declared.type.tensor_type.shape.dim
            sizes = [_SIZES.get(each.dim_param) or (each.dim_value,) * 3 for each in dimensions]
            profile.set_shape(value.name, *map(list, zip(*sizes, strict=True)))
    config.add_optimization_profile(profile)
    return config


def _products(log: str) -> list[str]:
    """Types of the engine's products with a constant matrix, from the layers that a DETAILED build prints."""
    found = []
    pattern = re.compile(
        r"^Name: .*?, LayerType: (?:gemm|runtime_fusion), Inputs: (.*?), Constants: (.*?), Outputs:", re.M
    )
    for inputs, constants in pattern.findall(log):
        tensors = [
            (math.prod(map(int, dimensions.split(","))), dtype)
            for dimensions, dtype in re.findall(r"Dimensions: \[([\d,]+)\].*?Datatype: (\w+)", constants)
        ]
        size, dtype = max(tensors, default=(1, ""))
        if size > 1:
            (x, *_) = re.findall(r"Datatype: (\w+)", inputs)
            found.append(f"{x} x {dtype}")
    return found


def usual_graphs(bundle: Bundle) -> list[str]:
    """A graph of each shape."""
    experts = [expert_name(0, 0)] if bundle.model.num_routed_experts else []
    return [trunk_name(0), *experts, "head"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--capability", type=int, nargs="+", default=[86, 89, 120])
    parser.add_argument("--graph", nargs="+", help="default: a trunk, an expert, the head")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle)
    builds = [
        build(bundle, graph, capability)
        for graph in arguments.graph or usual_graphs(bundle)
        for capability in arguments.capability
    ]
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in builds], indent=1) + "\n", encoding="utf-8")
    table = Table("graph", "precision", "SM", "kB", "products (input x weight), or why there is no engine")
    for each in builds:
        counts: dict[str, Any] = {name: each.products.count(name) for name in each.products}
        words = ", ".join(f"{count} {name}" for name, count in counts.items())
        table.add_row(
            each.graph,
            each.precision,
            str(each.capability),
            f"{each.num_bytes / 1e3:.0f}",
            escape(each.problem or words),
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
