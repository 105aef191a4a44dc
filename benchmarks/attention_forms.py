"""Which form of attention over the cache is fastest in ONNX Runtime on this CPU, in turns, with caches from memory.

    python -m benchmarks.attention_forms [--hidden 384 1024] [--rows 2 16] [--rounds N] [--markdown FILE]

One decode step of one guided stream (2 rows) or of several, from the joint q, k, v to the attended values: rotation,
the cache's new slot, attention.

now: the nodes of a trunk; query heads that share a key head are rows of one product.
float mask: the same with the mask as numbers to add.
head by head: the same with a product for each query head.
GQA: `com.microsoft.GroupQueryAttention`, one node for all of it, over caches that lie head by head.
GQA, 8-bit cache: the same over keys and values in 8 bits, one scale for all.
Each is compared with the first (the 8-bit cache to 5 %). One thread runs; times are CPU times.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from unimoe_runtime.backends.onnxruntime.sessions import open_session, use_global_pool
from unimoe_tools.profiling.machine import describe_machine, settle

from .workload import model_config

_SLOTS, _FILLED, _PADDED = 256, 216, 20
_SET_BYTES = 100e6
_SCALE = np.float32(0.04)  # of the 8-bit cache: standard normal values reach 5
_TOLERANCE = {"GQA, 8-bit cache": 0.05}
FORMS = ("now", "float mask", "head by head", "GQA", "GQA, 8-bit cache")
_FLOAT, _INT8, _BOOL = TensorProto.FLOAT, TensorProto.INT8, TensorProto.BOOL
Arrays = dict[str, NDArray[Any]]


class Workload:
    """The inputs of a step at one size. Query heads lie key head by key head (GQA's order)."""

    def __init__(self, hidden: int, rows: int) -> None:
        self.rows = rows
        config, random = model_config(hidden), np.random.default_rng(0)
        self.heads, self.kv_heads, self.size = config.num_heads, config.num_kv_heads, config.head_dim
        self.shared, self.wide = config.queries_per_key, config.num_kv_heads * config.head_dim
        normal = random.standard_normal
        self.query_BHD = normal((self.rows, self.heads, self.size), dtype=np.float32)
        self.key_value_BX = normal((self.rows, 2 * self.wide), dtype=np.float32)
        self.key_BSX, self.value_BSX = (normal((self.rows, _SLOTS, self.wide), dtype=np.float32) for _ in range(2))
        angles_BF = normal((self.rows, self.size // 2), dtype=np.float32)
        self.cos_BF, self.sin_BF = np.cos(angles_BF), np.sin(angles_BF)
        self.mask_BS = np.zeros((self.rows, _SLOTS), np.bool_)
        self.mask_BS[:, :_FILLED] = True
        self.mask_BS[0, :_PADDED] = False

    def grouped(self, x_BHD: NDArray[np.float32], *, back: bool = False) -> NDArray[np.float32]:
        """Query heads in the order in which a reshape makes those of a key head rows, or `back` from it."""
        first, second = (self.shared, self.kv_heads) if back else (self.kv_heads, self.shared)
        split = x_BHD.reshape(self.rows, first, second, self.size)
        return np.ascontiguousarray(split.swapaxes(1, 2)).reshape(self.rows, self.heads, self.size)

    def by_head(self, cache_BSX: NDArray[np.float32]) -> NDArray[np.float32]:
        split = cache_BSX.reshape(self.rows, _SLOTS, self.kv_heads, self.size)
        return np.ascontiguousarray(split.transpose(0, 2, 1, 3))

    def inputs(self, form: str) -> tuple[Arrays, Arrays]:
        """Inputs and caches of a form's graph."""
        query_BHD = self.grouped(self.query_BHD) if form in ("now", "float mask") else self.query_BHD
        made: Arrays = {"qkv": np.concatenate([query_BHD.reshape(self.rows, -1), self.key_value_BX], axis=1)[:, None]}
        if form.startswith("GQA"):
            caches = {"key": self.by_head(self.key_BSX), "value": self.by_head(self.value_BSX)}
            if "8-bit" in form:
                caches = {
                    name: np.clip(np.rint(cache / _SCALE), -127, 127).astype(np.int8) for name, cache in caches.items()
                }
            # The operator looks the angles up by position, in tables as long as the cache: here one entry for each row.
            for name, angles_BF in (("cos", self.cos_BF), ("sin", self.sin_BF)):
                made[name] = np.resize(angles_BF, (_SLOTS, self.size // 2))
            made["positions"] = np.arange(self.rows, dtype=np.int64)[:, None]
            made["last"] = np.full(self.rows, _FILLED - 1, np.int32)
            made["length"] = np.asarray(_FILLED, np.int32)
            made["bias"] = _as_bias(self.mask_BS[:, None, None, :_FILLED])
            return made, caches
        made |= {"cos": self.cos_BF[:, None], "sin": self.sin_BF[:, None]}
        made["slot"] = np.full(self.rows, _FILLED - 1, np.int64)
        queries = 1 if form == "head by head" else self.shared
        mask_B1QS = np.repeat(self.mask_BS[:, None, None], queries, axis=2)
        made["mask"] = _as_bias(mask_B1QS) if form == "float mask" else mask_B1QS
        return made, {"key": self.key_BSX.copy(), "value": self.value_BSX.copy()}

    def nodes(self, form: str) -> list[Any]:
        make, heads, kv_heads = helper.make_node, self.heads, self.kv_heads
        if form.startswith("GQA"):
            options: dict[str, Any] = {"num_heads": heads, "kv_num_heads": kv_heads, "do_rotary": 1}
            names = ["qkv", "", "", "key", "value", "last", "length", "cos", "sin", "positions", "bias"]
            if "8-bit" in form:
                names += ["", "scale", "scale"]
                options |= {"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_TENSOR", "kv_cache_bit_width": 8}
            outputs = ["attended", "new_key", "new_value"]
            return [
                make("GroupQueryAttention", names, outputs, domain="com.microsoft", **options),
                make("Reshape", ["attended", "rows"], ["y"]),
            ]
        product_heads = heads if form == "head by head" else kv_heads
        return [
            make("Split", ["qkv", "widths"], ["q", "k", "v"], axis=2),
            make("RotaryEmbedding", ["q", "cos", "sin"], ["rotated_q"], num_heads=heads),
            make("RotaryEmbedding", ["k", "cos", "sin"], ["rotated_k"], num_heads=kv_heads),
            make("TensorScatter", ["key", "rotated_k", "slot"], ["new_key"], axis=1),
            make("TensorScatter", ["value", "v", "slot"], ["new_value"], axis=1),
            *([make("Reshape", ["rotated_q", "wide"], ["queries"])] if product_heads == kv_heads else []),
            make(
                "Attention",
                ["queries" if product_heads == kv_heads else "rotated_q", "new_key", "new_value", "mask"],
                ["attended"], q_num_heads=product_heads, kv_num_heads=kv_heads,
            ),
            make("Reshape", ["attended", "rows"], ["y"]),
        ]  # fmt: skip

    def graph(self, form: str, inputs: Mapping[str, NDArray[Any]], cache_type: int) -> bytes:
        constants = {
            "widths": np.array([self.heads * self.size, self.wide, self.wide]),
            "wide": np.array([0, -1, self.wide]),
            "rows": np.array([-1, self.heads * self.size]),
            "scale": np.array([_SCALE]),
        }
        types = [
            (name, helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape)) for name, array in inputs.items()
        ]
        outputs = [("y", _FLOAT), ("new_key", cache_type), ("new_value", cache_type)]
        graph = helper.make_graph(
            self.nodes(form), "attention", [helper.make_tensor_value_info(*each) for each in types],
            [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs],
            [numpy_helper.from_array(values, name) for name, values in constants.items()],
        )  # fmt: skip
        opsets = [helper.make_opsetid("", 24), helper.make_opsetid("com.microsoft", 1)]
        made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=11).SerializeToString()
        return made


def _as_bias(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.where(mask, np.float32(0), np.float32(-np.inf))


class Calls:
    """Runs of one form, one after another over its own caches each."""

    def __init__(self, workload: Workload, form: str) -> None:
        self._kept: list[Any] = []
        inputs, caches = workload.inputs(form)
        kind = _INT8 if caches["key"].dtype == np.int8 else _FLOAT
        session = open_session(Path("attention"), content=workload.graph(form, {**inputs, **caches}, kind))
        values = {name: self._value(array) for name, array in inputs.items()}
        self.result = np.zeros((workload.rows, workload.heads * workload.size), np.float32)
        result = self._value(self.result)
        self.runs: list[Callable[[], None]] = []
        for _ in range(math.ceil(_SET_BYTES / (workload.key_BSX.nbytes + workload.value_BSX.nbytes))):
            binding = session.io_binding()
            own = {name: self._value(cache.copy()) for name, cache in caches.items()}
            for name, value in {**values, **own}.items():
                binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output("y", result)
            for name, value in own.items():
                binding.bind_ortvalue_output(f"new_{name}", value)
            self.runs.append(partial(session.run_with_iobinding, binding))
        self.runs[0]()

    def _value(self, array: NDArray[Any]) -> Any:
        held = np.asarray(array, order="C")
        value = ort.OrtValue.ortvalue_from_numpy(held)
        self._kept += [held, value]
        return value


def measure(hidden: int, rows: int, rounds: int) -> dict[str, float]:
    """Microseconds of each form, medians. Raises ValueError where a form's result differs."""
    workload, random = Workload(hidden, rows), np.random.default_rng(0)
    calls = {form: Calls(workload, form) for form in FORMS}
    results = {form: each.result.reshape(rows, -1, workload.size) for form, each in calls.items()}
    for form in ("now", "float mask"):
        results[form] = workload.grouped(results[form], back=True)
    for form, result in results.items():
        error = float(np.abs(result - results["now"]).max() / np.abs(results["now"]).max())
        if not error < _TOLERANCE.get(form, 1e-4):
            raise ValueError(f"{form} at hidden {hidden} with {rows} rows: differs by {error:.1e} of the largest value")
    seconds: dict[str, list[float]] = {form: [] for form in FORMS}
    for _ in range(rounds):
        for form in random.permutation(FORMS):
            settle()
            start = time.process_time()
            for run in calls[form].runs:
                run()
            seconds[form].append((time.process_time() - start) / len(calls[form].runs))
    return {form: 1e6 * float(np.median(values)) for form, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="+", default=[384, 1024])
    parser.add_argument("--rows", type=int, nargs="+", default=[2, 16])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--markdown", type=Path, help="write the table there")
    arguments = parser.parse_args()
    use_global_pool(1)
    about = ", ".join(f"{key} {value}" for key, value in describe_machine().items())
    lines = [f"{about}; one thread, µs of a layer", "", "| hidden | rows | " + " | ".join(FORMS) + " |"]
    lines.append("|" + " --- |" * (2 + len(FORMS)))
    for hidden, rows in product(arguments.hidden, arguments.rows):
        found = measure(hidden, rows, arguments.rounds)
        lines.append(f"| {hidden} | {rows} | " + " | ".join(f"{found[form]:.0f}" for form in FORMS) + " |")
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if arguments.markdown is not None:
        arguments.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
