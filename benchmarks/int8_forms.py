"""Which form of a quantized expert is fastest in ONNX Runtime on this CPU, interleaved, with weights from memory.

python -m benchmarks.int8_forms [--hidden 384 1024] [--rows 2 16] [--rounds N] [--json FILE] [--markdown FILE]

One expert (SwiGLU, combine inside) as float32; static QDQ (fuses to MatMulIntegerToFloat); the same with a range for
each row of the down product's input; dynamic int8 (DynamicQuantizeLinear with one scale for all rows, for comparison
only, because a row then changes another's result); and MatMulNBits in 8 and 4 bits by block size. Copies of each form
alternate, more of them than fit into the cache. One thread runs; times are CPU times.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

from benchmarks.output import add_output_options, write_outputs
from unimoe_calibration.schemes import Engine, Scheme
from unimoe_calibration.weights import SMALLEST_ROW_MAX, QuantizedWeight, quantize_weight
from unimoe_runtime.backends.onnxruntime.sessions import open_session, use_global_pool
from unimoe_tools.profiling.machine import describe_machine, settle

from .markdown import machine_line, table
from .workload import model_config

_SET_BYTES = 100e6
_INPUT_SCALE = np.float32(6 / 127)  # wide enough for both inputs of the random expert
FORMS = ("float32", "qdq", "qdq rows", "dynamic", "8 bits, 32", "8 bits, 64", "8 bits, 128", "4 bits, 32", "4 bits, 64")


@dataclass
class _Writer:
    """Nodes and initializers of one expert in one form."""

    form: str
    nodes: list[Any]
    initializers: list[Any]
    num_bytes: int = 0

    def constant(self, name: str, values: np.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        self.num_bytes += values.nbytes
        return name

    def product(self, x: str, name: str, weight_KN: np.ndarray) -> str:
        """Add x @ weight; returns its output's name."""
        y = f"{name}_out"
        if self.form == "float32":
            self.node("MatMul", [x, self.constant(name, weight_KN)], [y])
        elif self.form in ("qdq", "qdq rows", "dynamic"):
            weight = quantize_weight(weight_KN, Scheme.W8A8, Engine.ONNXRUNTIME)
            per_row = self.form == "qdq rows" and name == "down"
            self._int8(x, y, name, weight, np.float32(1 / 127) if per_row else _INPUT_SCALE)
        else:
            bits, block = (int(word) for word in self.form.replace(" bits", "").split(", "))
            weight = quantize_weight(weight_KN, Scheme.W8 if bits == 8 else Scheme.W4, Engine.ONNXRUNTIME, block=block)
            codes, scales = (
                self.constant(name + suffix, part.values)
                for suffix, part in (("_codes", weight.codes), ("_scales", weight.scales))
            )
            rows, columns = weight_KN.shape
            self.node(
                "MatMulNBits", [x, codes, scales], [y], domain="com.microsoft", K=rows, N=columns, bits=bits,
                block_size=block, accuracy_level=4,
            )  # fmt: skip
        return y

    def _int8(self, x: str, y: str, name: str, weight: QuantizedWeight, input_scale: np.float32) -> None:
        codes = self.constant(name + "_codes", weight.codes.values)
        scales = self.constant(name + "_scales", weight.scales.values)
        if self.form == "dynamic":
            rounded, scale, zero = (f"{name}_{part}" for part in ("rounded", "scale", "zero"))
            self.node("DynamicQuantizeLinear", [x], [rounded, scale, zero])
            self.node("MatMulIntegerToFloat", [rounded, codes, scale, scales, zero], [y], domain="com.microsoft")
            return
        scale = self.constant(name + "_input", np.asarray(input_scale))
        zero = self.constant(name + "_zero", np.zeros((), np.int8))
        self.node("QuantizeLinear", [x, scale, zero], [name + "_q"])
        self.node("DequantizeLinear", [name + "_q", scale, zero], [name + "_x"])
        self.node("DequantizeLinear", [codes, scales], [name + "_w"], axis=1)
        self.node("MatMul", [name + "_x", name + "_w"], [y])

    def node(self, op_type: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op_type, inputs, outputs, **attributes))


def write_expert(path: Path, form: str, hidden: int, width: int, seed: int) -> int:
    """Write one random expert; returns the bytes of its weights."""
    random = np.random.default_rng(seed)
    writer = _Writer(form, [], [])
    gate_up = random.standard_normal((hidden, 2 * width), dtype=np.float32) * np.float32(hidden**-0.5)
    down = random.standard_normal((width, hidden), dtype=np.float32) * np.float32(width**-0.5)
    product = writer.product("x", "gate_up", gate_up)
    writer.node("Split", [product], ["gate", "up"], axis=-1, num_outputs=2)
    writer.node("Sigmoid", ["gate"], ["sigmoid"])
    writer.node("Mul", ["gate", "sigmoid"], ["silu"])
    writer.node("Mul", ["silu", "up"], ["inner"])
    inner, weight = "inner", "weight"
    if form == "qdq rows":
        writer.node("Abs", ["inner"], ["magnitude"])
        writer.node("ReduceMax", ["magnitude", writer.constant("axis", np.array([-1]))], ["row_largest"])
        writer.node("Max", ["row_largest", writer.constant("tiny", np.asarray(SMALLEST_ROW_MAX))], ["row_max"])
        writer.node("Div", ["inner", "row_max"], ["inner_by_row"])
        writer.node("Mul", ["weight", "row_max"], ["weight_by_row"])
        inner, weight = "inner_by_row", "weight_by_row"
    product = writer.product(inner, "down", down)
    writer.node("Mul", [product, weight], ["weighted"])
    zero = writer.constant("zero", np.asarray(np.float32(0)))
    writer.node("Greater", ["weight", zero], ["picked"])
    writer.node("Where", ["picked", "weighted", zero], ["selected"])
    writer.node("Add", ["accumulator", "selected"], ["y"])
    signature = [("x", hidden), ("accumulator", hidden), ("weight", 1)]
    graph = helper.make_graph(
        writer.nodes, "expert",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name, size in signature],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", hidden])], writer.initializers,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return writer.num_bytes


def measure(hidden: int, rows: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Microseconds of one expert by form: medians over interleaved rounds, and the ratio to float32 in each."""
    width = model_config(hidden).routed_intermediate_size
    random = np.random.default_rng(0)
    feeds = {
        "x": random.standard_normal((rows, hidden), dtype=np.float32),
        "accumulator": np.zeros((rows, hidden), np.float32),
        "weight": np.full((rows, 1), 0.5, np.float32),
    }
    sessions: dict[str, list[Any]] = {}
    errors: dict[str, float] = {}
    for form in FORMS:
        sessions[form] = list(_copies(form, hidden, width, folder))
        outputs = [sessions[each][0].run(None, feeds)[0] for each in ("float32", form)]
        errors[form] = float(np.linalg.norm(outputs[1] - outputs[0]) / np.linalg.norm(outputs[0]))
    seconds: dict[str, list[float]] = {form: [] for form in FORMS}
    for _ in range(rounds):
        for form in random.permutation(FORMS):
            settle()
            sessions[form][0].run(None, feeds)
            start = time.process_time()
            for session in sessions[form][1:]:
                session.run(None, feeds)
            seconds[form].append((time.process_time() - start) / (len(sessions[form]) - 1))
    times = {form: np.array(values) for form, values in seconds.items()}
    return {
        "hidden": hidden,
        "width": width,
        "rows": rows,
        "microseconds": {form: 1e6 * float(np.median(values)) for form, values in times.items()},
        "speed": {form: float(np.median(times["float32"] / values)) for form, values in times.items()},
        "error": errors,
    }


def _copies(form: str, hidden: int, width: int, folder: Path) -> Iterator[Any]:
    """Sessions over as many copies as fit into `_SET_BYTES`, at least three."""
    count, made = 3, 0
    while made < count:
        path = folder / "expert.onnx"
        num_bytes = write_expert(path, form, hidden, width, seed=0)
        count = max(3, math.ceil(_SET_BYTES / num_bytes))
        yield open_session(path)
        made += 1


def as_markdown(results: list[dict[str, Any]]) -> str:
    """Microseconds of an expert by form, and how many times as fast as float32."""
    rows = [
        [
            str(result["hidden"]),
            str(result["rows"]),
            *(f"{result['microseconds'][form]:.0f} ({result['speed'][form]:.1f} ×)" for form in FORMS),
        ]
        for result in results
    ]
    about = f"{machine_line(describe_machine())}; one thread"
    return "\n".join([about, "", *table(["hidden", "rows", *FORMS], rows)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="+", default=[384, 1024])
    parser.add_argument("--rows", type=int, nargs="+", default=[2, 16])
    parser.add_argument("--rounds", type=int, default=20)
    add_output_options(parser)
    arguments = parser.parse_args()
    use_global_pool(1)
    with tempfile.TemporaryDirectory(prefix="unimoe-forms-") as folder:
        results = [
            measure(hidden, rows, arguments.rounds, Path(folder))
            for hidden in arguments.hidden
            for rows in arguments.rows
        ]
    write_outputs(arguments, results, as_markdown(results))
    table = Table("hidden", "rows", *FORMS, title="times float32's speed (error)")
    for result in results:
        cells = [f"{result['speed'][form]:.2f} ({100 * result['error'][form]:.1f} %)" for form in FORMS]
        table.add_row(str(result["hidden"]), str(result["rows"]), *cells)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
