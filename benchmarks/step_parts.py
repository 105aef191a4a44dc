"""Where a decode step's time goes: the trunk stage by stage, experts, head, and the rest.

    python -m benchmarks.step_parts [--hidden 384 1024] [--picked 2] [--rounds 20] [--markdown FILE]

A trunk's graph is cut after each stage; the time of a stage is what it adds to the graph before it. A profiler would
add 2 to 3 µs to each node. The model has random weights in 8 bits and in float32. Copies of it alternate, so that
weights and caches come from memory. One thread runs; times are medians of the process's CPU time.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.onnxruntime.sessions import open_session, use_global_pool
from unimoe_runtime.backends.trunk_form import TrunkForm
from unimoe_runtime.bundle.reader import Bundle, expert_name, open_bundle, trunk_name
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.profiling.machine import describe_machine, settle

from .bandwidth import BUFFER_BYTES, ReadKernels, clock_for
from .markdown import machine_line
from .quantized import write_measured
from .rounds import CAPACITY, PROMPT_TOKENS, Peer
from .workload import ROWS, bytes_touched

_SET_BYTES, _MOST_COPIES = 100e6, 5
_CACHES = ["new_key_cache_BSX", "new_value_cache_BSX"]
Call = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a step: `calls` are its runs of one step and copy after another; `before` the part that they include
    (a trunk's earlier stages)."""

    name: str
    nodes: int
    calls: Sequence[Call]
    a_step: int
    before: str | None = None


class Buffers:
    """The inputs of graphs, as OrtValues over arrays that stay alive."""

    def __init__(self, bundle: Bundle) -> None:
        self.form = TrunkForm.of(bundle)
        random = np.random.default_rng(0)
        hidden = random.standard_normal((ROWS, 1, bundle.model.hidden_size), dtype=np.float32)
        shapes = self.form.step_shapes(ROWS, 1, CAPACITY)
        arrays: dict[str, NDArray[Any]] = {name: np.ones(shape, kind) for name, (shape, kind) in shapes.items()}
        arrays |= self.form.hidden_inputs(hidden, hidden.reshape(ROWS, -1))
        arrays["write_index_B"][:] = PROMPT_TOKENS
        arrays |= {name: hidden.reshape(ROWS, -1).copy() for name in ("accumulator_NC", "expert_input_NC")}
        arrays["weight_N1"] = np.full((ROWS, 1), 0.5, np.float32)
        self._arrays: list[NDArray[Any]] = []
        self.inputs = {name: self.value(array) for name, array in arrays.items()}

    def value(self, array: NDArray[Any]) -> Any:
        self._arrays.append(array)
        return ort.OrtValue.ortvalue_from_numpy(array)

    def caches(self) -> dict[str, Any]:
        """New caches of one layer, by the names of the inputs and of the outputs that replace them."""
        shape = self.form.graph_shape(self.form.cache_shape(ROWS, CAPACITY))
        made = {name: self.value(np.ones(shape, np.float32)) for name in self.form.caches}
        return {**made, **{f"new_{name}": value for name, value in made.items()}}

    def bound(self, session: Any, values: Mapping[str, Any]) -> Call:
        """A call of a session; outputs that `values` lacks get their own arrays."""
        binding = session.io_binding()
        for put in session.get_inputs():
            binding.bind_ortvalue_input(put.name, values[put.name])
        for out in session.get_outputs():
            if out.name in values:
                binding.bind_ortvalue_output(out.name, values[out.name])
            else:
                binding.bind_output(out.name)
        session.run_with_iobinding(binding)
        given = dict(zip((out.name for out in session.get_outputs()), binding.get_outputs(), strict=True))
        binding.clear_binding_outputs()
        for name, value in given.items():
            own = values[name] if name in values else self.value(np.zeros(value.shape(), value.numpy().dtype))
            binding.bind_ortvalue_output(name, own)
        return lambda: session.run_with_iobinding(binding)


def stages(graph: onnx.GraphProto) -> list[tuple[str, list[str]]]:
    """Names of a trunk's stages, and the outputs of the graph that ends there."""

    def outputs(kind: str) -> list[str]:
        return [node.output[0] for node in graph.node if node.op_type == kind]

    split = next(node for node in graph.node if node.op_type == "Split")
    residual = [*_CACHES, "expert_input_NC"]
    return [
        ("norm", outputs("RMSNormalization")[:1]),
        ("q, k, v", [split.input[0]]),
        ("rotation", outputs("RotaryEmbedding")),
        ("cache and attention", [*_CACHES, *outputs("Attention")]),
        ("output, residual, norm", residual),
        ("router", [*residual, "router_logits_NR", "weights_NE"]),
        ("shared experts", [value.name for value in graph.output]),
    ]


def cut(model: onnx.ModelProto, outputs: Sequence[str]) -> tuple[bytes, int]:
    """The graph that ends with these outputs, and its number of nodes."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph, wanted, nodes = made.graph, set(outputs), []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            nodes.append(node)
            wanted |= set(node.input)
    known = {value.name: value for value in model.graph.output}
    ends = [known.get(name) or onnx.helper.make_tensor_value_info(name, 1, None) for name in outputs]
    for field, kept in (
        (graph.node, nodes[::-1]),
        (graph.output, ends),
        (graph.input, [value for value in model.graph.input if value.name in wanted]),
        (graph.initializer, [value for value in model.graph.initializer if value.name in wanted]),
    ):
        del field[:]
        field.extend(kept)
    return made.SerializeToString(), len(nodes)


def copies_of(bundle: Bundle) -> int:
    """The number of copies that fill `_SET_BYTES` where a step picks no expert, within bounds."""
    num_bytes = sum(bytes_touched(bundle, 0, PROMPT_TOKENS).values())
    return min(_MOST_COPIES, math.ceil(_SET_BYTES / num_bytes))


def trunk_parts(bundle: Bundle, buffers: Buffers, copies: int) -> list[Part]:
    """A part for each stage, over every layer and copy."""
    layers = range(bundle.model.num_layers)
    paths = [bundle.path / bundle.graph(trunk_name(layer)).file for layer in layers]
    precision = bundle.graph(trunk_name(0)).precision
    models = [onnx.load(path, load_external_data=False) for path in paths]
    caches = [buffers.caches() for _ in range(copies * len(paths))]
    parts: list[Part] = []
    for name, outputs in stages(models[0].graph):
        calls, nodes = [], 0
        for index, cache in enumerate(caches):
            layer = index % len(paths)
            content, nodes = cut(models[layer], outputs)
            session = open_session(paths[layer], precision=precision, content=content)
            calls.append(buffers.bound(session, {**buffers.inputs, **cache}))
        before = parts[-1].name if parts else None
        parts.append(Part(name=name, nodes=nodes, calls=calls, a_step=len(paths), before=before))
    return parts


def other_parts(bundle: Bundle, buffers: Buffers, copies: int, picked: int) -> list[Part]:
    """Picked experts and the head."""
    layers = range(bundle.model.num_layers)
    experts = [expert_name(layer, expert) for layer in layers for expert in range(picked)]
    made = []
    for name, graphs in (("picked experts", experts), ("head", ["head"])):
        calls, nodes = [], 0
        for graph in graphs * copies:
            info = bundle.graph(graph)
            path = bundle.path / info.file
            nodes = len(onnx.load(path, load_external_data=False).graph.node)
            values = {**buffers.inputs, "new_accumulator_NC": buffers.inputs["accumulator_NC"]}
            calls.append(buffers.bound(open_session(path, precision=info.precision), values))
        if calls:
            made.append(Part(name=name, nodes=nodes, calls=calls, a_step=len(graphs)))
    return made


def measure(bundle: Bundle, picked: int, rounds: int) -> tuple[list[tuple[str, int, float]], float]:
    """Name, nodes and microseconds a step of each part, and microseconds of a whole step."""
    buffers, copies = Buffers(bundle), copies_of(bundle)
    parts = [*trunk_parts(bundle, buffers, copies), *other_parts(bundle, buffers, copies, picked)]
    models = []
    for _ in range(copies):
        backend = open_backend("onnxruntime", bundle)
        backend.load()
        models.append(BundleModel(backend))
    peer = Peer(list(models), bundle, time.process_time)
    random = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {part.name: [] for part in parts}
    steps: list[float] = []
    for _ in range(rounds):
        for part in parts:
            settle()
            for call in part.calls[-part.a_step :]:
                call()
            start = time.process_time()
            for call in part.calls:
                call()
            seconds[part.name].append((time.process_time() - start) / copies)
        peer.prepare(peer.copies + 1)
        settle()
        peer.step(picked, random)
        steps += [peer.step(picked, random)[0] for _ in range(peer.copies)]
    medians = {name: 1e6 * float(np.median(values)) for name, values in seconds.items()}
    nodes = {part.name: part.nodes for part in parts}
    found = []
    for part in parts:
        before = medians[part.before] if part.before else 0.0
        found.append((part.name, part.nodes - (nodes[part.before] if part.before else 0), medians[part.name] - before))
    return found, 1e6 * float(np.median(steps))


def table(title: str, bundle: Bundle, picked: int, rounds: int) -> str:
    """The parts of one bundle's step as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        kernels = ReadKernels(Path(folder) / "read", clock_for(1))
        rates = [max(BUFFER_BYTES / kernels.seconds(name) for name in kernels.names) for _ in range(5)]
    floor_us = 1e6 * sum(bytes_touched(bundle, picked, PROMPT_TOKENS).values()) / float(np.median(rates))
    found, step_us = measure(bundle, picked, rounds)
    found.append(("the rest: Python, inputs, read-back", 0, step_us - sum(us for _, _, us in found)))
    lines = [
        f"**{title}, {picked} picked: {step_us:.0f} µs a step, {step_us / floor_us:.2f} × its floor**",
        "",
        "| part | nodes | µs a step | share |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {name} | {nodes or ''} | {us:.0f} | {us / step_us:.0%} |" for name, nodes, us in found]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="+", default=[384, 1024])
    parser.add_argument("--picked", type=int, default=2, choices=range(9))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--markdown", type=Path, help="write the tables there")
    arguments = parser.parse_args()
    use_global_pool(1)
    text = f"{machine_line(describe_machine())}; one thread\n"
    for hidden in arguments.hidden:
        with tempfile.TemporaryDirectory(prefix="unimoe-benchmark-") as temporary:
            folder = Path(temporary)
            write_measured(folder, hidden)
            for name in ("int8", "bundle"):
                title = f"hidden {hidden}, {'8-bit weights' if name == 'int8' else 'float32'}"
                text += "\n" + table(title, open_bundle(folder / name), arguments.picked, arguments.rounds)
    print(text, end="")
    if arguments.markdown is not None:
        arguments.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
