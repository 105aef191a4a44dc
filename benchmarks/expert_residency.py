"""Experts under a memory budget: the cost of keeping and loading one in each way, and the effect on a generation.

python -m benchmarks.expert_residency BUNDLE [BUNDLE …] [--rounds N] [--steps N] [--threads N] [--markdown FILE]

Each budget has its own process, where a limited and an unlimited backend alternate: the ratio holds on a busy machine,
times do not. Memory is read from outside that process (smaps_rollup), after the last step.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from rich.console import Console

from unimoe_runtime.backends.onnxruntime.backend import OnnxRuntimeBackend
from unimoe_runtime.backends.onnxruntime.expert_loader import Loader
from unimoe_runtime.backends.onnxruntime.onnx_proto import with_inputs
from unimoe_runtime.backends.onnxruntime.passes import NO_WEIGHTS
from unimoe_runtime.backends.onnxruntime.sessions import CPU_ONLY, open_session
from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.bundle.reader import Bundle, expert_name, open_bundle
from unimoe_runtime.files.safetensors_reader import TensorFile
from unimoe_runtime.model.generation import generate
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.parity.sample_requests import standard_requests
from unimoe_tools.profiling.machine import describe_machine

from .child import ROOT, environment
from .markdown import machine_line
from .residency_tables import print_tables, tables

_KEPT = 8  # experts kept while others load, so that weights and the parts of a session come from memory
_SHARES = (1.5, 1.0, 0.75, 0.5, 0.0)  # of the p95 of the memory of a step's experts


Run = Callable[[], None]


class _Buffers:
    """An expert's inputs and output, bound as in a step."""

    def __init__(self, inputs: Mapping[str, np.ndarray]) -> None:
        self.weight_N1 = inputs["weight_N1"]
        self.output_NC = np.zeros_like(inputs["accumulator_NC"])
        self._inputs = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in inputs.items()}
        self._output = ort.OrtValue.ortvalue_from_numpy(self.output_NC)

    def bind_expert(self, session: Any, layer: int, weights: Mapping[str, Any] = NO_WEIGHTS) -> Run:
        binding = session.io_binding()
        for name, value in {**self._inputs, **weights}.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_ortvalue_output("new_accumulator_NC", self._output)
        return partial(session.run_with_iobinding, binding)


def memory_kb(process: int | str = "self") -> tuple[int, int]:
    """Resident memory of a process in KB: anonymous, and mapped from files."""
    rows = [line.split() for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]]
    sizes = {row[0].rstrip(":"): int(row[1]) for row in rows}
    return sizes["Anonymous"], sizes["Rss"] - sizes["Anonymous"]


def ways(path: Path) -> list[dict[str, Any]]:
    """Loading, running and keeping one expert in four ways, compared bit by bit with a plain session's results."""
    bundle = open_bundle(path)
    model = bundle.model
    graphs = [
        expert_name(layer, expert) for layer in range(model.num_layers) for expert in range(model.num_routed_experts)
    ]
    files = {graph: bundle.path / bundle.graph(graph).file for graph in graphs}
    tensors = {graph: bundle.weights(graph) for graph in graphs}
    random = np.random.default_rng(0)
    hidden = model.hidden_size
    inputs = {
        "accumulator_NC": random.standard_normal((2, hidden), dtype=np.float32),
        "expert_input_NC": random.standard_normal((2, hidden), dtype=np.float32),
        "weight_N1": np.array([[0.4], [0.6]], np.float32),
    }
    precision = bundle.graphs[graphs[0]].precision
    content = files[graphs[0]].read_bytes()
    shared = open_session(files[graphs[0]], CPU_ONLY, precision, content=_with_inputs(content, tensors[graphs[0]]))

    buffers = _Buffers(inputs)

    def with_weights(graph: str) -> tuple[Run, Callable[[], None]]:
        tensors[graph].fetch()
        weights = {name: ort.OrtValue.ortvalue_from_numpy(tensors[graph].raw(name)) for name in tensors[graph].entries}
        return buffers.bind_expert(shared, 0, weights), tensors[graph].forget

    def with_session(**options: Any) -> Callable[[str], tuple[Run, Callable[[], None]]]:
        def load(graph: str) -> tuple[Run, Callable[[], None]]:
            return buffers.bind_expert(open_session(files[graph], CPU_ONLY, precision, **options), 0), lambda: None

        return load

    loader = Loader(bundle, CPU_ONLY)

    def as_done(graph: str) -> tuple[Run, Callable[[], None]]:
        layer, expert = divmod(graphs.index(graph), model.num_routed_experts)
        resident = loader((layer, expert))
        return resident.bound(buffers, layer), resident.close

    lean: dict[str, Any] = {"arena": False, "optimize": precision != "float32"}
    loaders = {
        "session, as usual": with_session(),
        "no arena, no optimizer for float32": with_session(**lean),
        "one session, weights as inputs": with_weights,
        "as under a budget": as_done,
    }
    expected = {}
    for graph in graphs:
        loaders["session, as usual"](graph)[0]()
        expected[graph] = buffers.output_NC.copy()
    rows = []
    for name, load in loaders.items():
        kept: list[tuple[Run, Callable[[], None]]] = []
        same, loads_s, runs_s = 0, [], []
        before = memory_kb()
        for index in range(3 * len(graphs)):
            graph = graphs[index * 5 % len(graphs)]
            if len(kept) == _KEPT:
                kept.pop(0)[1]()
            start = time.thread_time()
            kept.append(load(graph))
            loads_s.append(time.thread_time() - start)
            kept[-1][0]()
            same += np.array_equal(buffers.output_NC, expected[graph])
        for _ in range(20):
            for run, _ in kept:
                start = time.thread_time()
                run()
                runs_s.append(time.thread_time() - start)
        after = memory_kb()
        rows.append(
            {
                "way": name,
                "weights_kb": tensors[graphs[0]].path.stat().st_size / 1024,
                "load_ms": 1e3 * float(np.median(loads_s)),
                "run_us": 1e6 * float(np.median(runs_s)),
                "anonymous_kb": (after[0] - before[0]) / _KEPT,
                "mapped_kb": (after[1] - before[1]) / _KEPT,
                "same_bits": same / len(loads_s),
            }
        )
        for _, close in kept:
            close()
    return rows


def _with_inputs(content: bytes, tensors: TensorFile) -> bytes:
    try:
        return with_inputs(content, tensors)
    except KeyError as error:
        raise SystemExit(f"{tensors.path}: weights of the type {error} cannot be tried as inputs") from None


def decode(backend: Backend, bundle: Bundle, steps: int) -> tuple[np.ndarray, list[float], list[float]]:
    """Codes of the bundle's standard requests; CPU seconds and wall seconds of each step."""
    codes, cpu_s, wall_s = [], [], []
    for request in standard_requests(bundle):
        model = BundleModel(backend)
        start = (time.process_time(), time.perf_counter())
        for step in generate(model, request.prompt, bundle.model, request.sampling, seed=0):
            now = (time.process_time(), time.perf_counter())
            if step.index:  # the first one includes the prefill
                cpu_s.append(now[0] - start[0])
                wall_s.append(now[1] - start[1])
            codes.append(step.codes_UK)
            if step.index == steps:
                break
            start = (time.process_time(), time.perf_counter())
    return np.concatenate(codes), cpu_s, wall_s


def worker(path: Path, threads: int, rounds: int, steps: int, budget_bytes: int) -> dict[str, Any]:
    """One budget against none. After the limited backend's run it waits for a line, so that memory can be read."""
    bundle = open_bundle(path)
    budgeted = OnnxRuntimeBackend(bundle, threads=threads, memory_budget_bytes=budget_bytes)
    first = decode(budgeted, bundle, steps)[0]
    print("ready", flush=True)
    sys.stdin.readline()
    return worker_figures(bundle, budgeted, first, threads=threads, rounds=rounds, steps=steps)


def worker_figures(
    bundle: Bundle, budgeted: OnnxRuntimeBackend, first: np.ndarray, *, threads: int | None, rounds: int, steps: int
) -> dict[str, Any]:
    """Alternating rounds of a backend with a budget and one without. `first`: earlier codes of the former."""
    plain = OnnxRuntimeBackend(bundle, threads=threads)
    expected = decode(plain, bundle, steps)[0]
    cpu, wall, same = [], [], np.array_equal(first, expected)
    before = budgeted.residency()
    count = 0
    for _ in range(rounds):
        _, base_cpu_s, base_wall_s = decode(plain, bundle, steps)
        codes, cpu_s, wall_s = decode(budgeted, bundle, steps)
        same = same and np.array_equal(codes, expected)
        cpu.append(np.mean(cpu_s) / np.mean(base_cpu_s))
        wall.append(np.mean(wall_s) / np.mean(base_wall_s))
        count += len(cpu_s)
    after = budgeted.residency()
    assert before is not None and after is not None and budgeted.experts is not None
    uses, misses = after.uses - before.uses, after.misses - before.misses
    return {
        "budget_bytes": budgeted.experts.budget_bytes,
        "expert_bytes": budgeted.experts.bytes_of[0, 0],
        "step_bytes_p95": after.step_bytes_p95,
        "same": bool(same),
        "slowdown_cpu": float(np.median(cpu)),
        "slowdown": float(np.median(wall)),
        "hit_rate": 1 - misses / uses,
        "misses_per_step": misses / count,  # including those of the prompts
        "peak_bytes": after.peak_bytes,
        "loaded_ahead": after.loaded_ahead - before.loaded_ahead,
        "prefetch_accuracy": after.prefetch_accuracy,
        "stall_ms_per_step": 1e3 * (after.stall_s - before.stall_s) / count,
        "step_ms": 1e3 * float(np.mean(base_wall_s)),
    }


def budgets(path: Path, arguments: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Budgets from ample to zero, each in its own process."""
    probe = _in_process(path, arguments, 0, rounds=1)
    empty_kb = probe["anonymous_kb"]
    rows = []
    for share in _SHARES:
        with console.status(f"{path.name}: {share:g} of the p95 of a step"):
            row = _in_process(path, arguments, int(share * probe["step_bytes_p95"]), rounds=arguments.rounds)
        row["share"] = share
        row["anonymous_over_empty_kb"] = row["anonymous_kb"] - empty_kb
        rows.append(row)
    return rows


def _in_process(path: Path, arguments: argparse.Namespace, budget_bytes: int, rounds: int) -> dict[str, Any]:
    command = [
        sys.executable, "-m", "benchmarks.expert_residency", str(path), "--threads", str(arguments.threads),
        "--rounds", str(rounds), "--steps", str(arguments.steps), "--budget", str(budget_bytes),
    ]  # fmt: skip
    with subprocess.Popen(
        command,
        env=environment({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        anonymous_kb, mapped_kb = memory_kb(process.pid)
        process.stdin.write("\n")
        process.stdin.close()
        result: dict[str, Any] = json.loads(process.stdout.read())
    return {**result, "anonymous_kb": anonymous_kb, "mapped_kb": mapped_kb}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=120, help="decode steps of a request, at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--markdown", type=Path, help="write the tables there as Markdown")
    parser.add_argument("--budget", type=int, help="measure one budget and print JSON")
    arguments = parser.parse_args()
    if arguments.budget is not None:
        found = worker(arguments.bundles[0], arguments.threads, arguments.rounds, arguments.steps, arguments.budget)
        json.dump(found, sys.stdout)
        return
    console = Console(width=170)
    lines = [f"{machine_line(describe_machine())}; {arguments.threads} thread(s), {arguments.rounds} rounds", ""]
    for path in arguments.bundles:
        path = path.absolute()
        kept = ways(path)
        lines += print_tables(console, tables(path.name, kept, budgets(path, arguments, console)))
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
