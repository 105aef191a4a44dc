"""What recording costs, and whether others who look at the same run see the same: ONNX Runtime's profiler, py-spy.

python -m benchmarks.profiling_overhead [--bundle DIR] [--threads N] [--pairs N] [--seconds S] [--json FILE]

Without a bundle, the checkpoint in the box is exported. py-spy is used where it is installed (`pip install py-spy`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from unimoe_runtime.backends import open_backend
from unimoe_runtime.bundle import open_bundle
from unimoe_runtime.generation import Prompt
from unimoe_runtime.language_model import BundleModel
from unimoe_runtime.profiling.breakdown import DECODE_PARTS
from unimoe_runtime.profiling.machine import Company, describe_machine
from unimoe_runtime.profiling.measure import Meter
from unimoe_runtime.profiling.recorder import Part, RecordedModel, Recorder, code
from unimoe_runtime.profiling.worker import Worker
from unimoe_runtime.profiling.workload import Setting, make_requests

_DEMO = Path(__file__).parent.parent / "checkpoints" / "demo"
_ENGINE_PARTS = {"trunk": "trunk", "expert": "expert", "head": "head"}
_STEPS_A_PROMPT, _STEPS_A_BLOCK, _STEPS_TO_WARM = 100, 25, 3
_SAMPLES_A_SECOND = 1000
_LARGE_PART = 0.1  # of smaller parts there are too few samples to tell a twentieth
# Which function, innermost first, says what a stack was at; the recorder's wrap the graphs.
_FUNCTIONS = {
    "trunk": "trunk", "expert": "expert", "head": "head", "_picked": "dispatch", "decode": "codec", "rotary": "inputs",
    "begin": "inputs", "_run": "dispatch", "step": "inputs", "_generate": "sampling", "measure": "host",
}  # fmt: skip


def measure_overhead(path: Path, threads: int, pairs: int) -> dict[str, Any]:
    """Steps of a plain and of a recorded model, in blocks by turns, over the same sessions and on the same codes."""
    bundle = open_bundle(path)
    backend = open_backend("onnxruntime", bundle, threads=threads)
    backend.load()
    config = bundle.model
    random = np.random.default_rng(0)
    prompt = Prompt.from_rows(list(random.integers(config.text_vocab_size, size=(2, 30))), paired=True)
    seconds: dict[str, list[float]] = {"plain": [], "recorded": []}
    while len(seconds["plain"]) < pairs:
        recorder = Recorder()
        models = {"plain": BundleModel(backend), "recorded": RecordedModel(backend, recorder)}
        for model in models.values():
            model.prefill(prompt)
        codes_SBK = random.integers(config.codebook_size, size=(_STEPS_A_PROMPT, 1, config.num_codebooks)).repeat(2, 1)
        for block, first in enumerate(range(0, _STEPS_A_PROMPT, _STEPS_A_BLOCK)):
            for name in list(models)[:: 1 if block % 2 else -1]:
                for index in range(first, first + _STEPS_A_BLOCK):
                    # CPU time of this thread, which waits for the others by spinning: the company of other processes
                    # is no part of it.
                    start = time.thread_time()
                    models[name].step(codes_SBK[index], prompt.first_position_B + np.float32(index))
                    elapsed = time.thread_time() - start
                    if index >= first + _STEPS_TO_WARM:
                        seconds[name].append(elapsed)
    plain, recorded = (np.array(seconds[name]) for name in ("plain", "recorded"))
    difference = recorded - plain
    draws = random.integers(len(plain), size=(2000, len(plain)))
    shares = np.median(difference[draws], axis=1) / np.median(plain[draws], axis=1)
    put = Recorder().put
    start = time.thread_time()
    for _ in range(200_000):
        put(Part.TRUNK)
        put(time.perf_counter_ns())
    mark_us = (time.thread_time() - start) / 0.2
    recorder.mark(code(Part.END))
    marks_a_step = (len(recorder.marks().part_M) - 1) / (_STEPS_A_PROMPT + 1)
    return {
        "pairs": len(plain),
        "plain_ms": 1e3 * float(np.median(plain)),
        "overhead": float(np.median(difference) / np.median(plain)),
        "overhead_95": [float(value) for value in np.percentile(shares, [2.5, 97.5])],
        "mark_us": mark_us,
        "marks_a_step": marks_a_step,
        "marks_share": marks_a_step * mark_us / 1e6 / float(np.median(plain)),
    }


def compare_with_engine(setting: Setting) -> dict[str, Any]:
    """Milliseconds a step in trunks, experts and head, by our marks and by ONNX Runtime's profiler, in one run."""
    with Worker(replace(setting, kernels=True)) as worker:
        worker.warm_up()
        worker.repeat()
        worker.read()
        record = worker.finish()
    runs = record["kernels"]["runs"]
    parts = {name: (record["parts"][name]["ms_a_step"], runs[graph]) for name, graph in _ENGINE_PARTS.items()}
    totals = [sum(values) for values in zip(*parts.values(), strict=True)]
    return {
        "parts": {name: {"ours_ms": ours, "theirs_ms": theirs} for name, (ours, theirs) in parts.items()},
        "together": totals[0] / totals[1],
    }


def compare_with_sampler(setting: Setting, seconds: float) -> dict[str, Any] | None:
    """Shares of decoding by our marks and by py-spy's samples of the same process; None without py-spy."""
    spy = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if spy is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        stacks = Path(folder) / "stacks.txt"
        command = [spy, "record", "--rate", _SAMPLES_A_SECOND, "--idle", "--format", "raw", "--output", stacks, "--",
                   sys.executable, "-m", "benchmarks.profiling_overhead", "--child", json.dumps(setting.to_dict()),
                   "--seconds", seconds]  # fmt: skip
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
        # py-spy has words of its own to say there.
        ours = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
        theirs = _shares_of_samples(stacks.read_text())
    parts = {name: {"ours": share, "theirs": theirs.get(name, 0.0)} for name, share in ours.items()}
    large = [part["ours"] / part["theirs"] - 1 for part in parts.values() if part["ours"] >= _LARGE_PART]
    return {"parts": parts, "worst": max(large, key=abs)}


def _shares_of_samples(text: str) -> dict[str, float]:
    """Of the samples within `_decode_rounds` and outside of the prompts' passes, by part."""
    counts: dict[str, int] = defaultdict(int)
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        functions = [frame.split(" (")[0].rsplit(".", 1)[-1] for frame in stack.split(";")]
        decoding = "_decode_rounds" in functions and not {"prefill", "break_down", "settle", "_prepare"} & set(
            functions
        )
        if decoding and {"_generate", "decode"} & set(functions):
            part = next(_FUNCTIONS[name] for name in reversed(functions) if name in _FUNCTIONS)
            counts[part] += int(count)
    total = sum(counts.values())
    return {part: count / total for part, count in counts.items()}


def run_child(setting: Setting, seconds: float) -> None:
    """Generate for some seconds and print the shares of decoding that the marks tell."""
    meter = Meter(setting)
    for request in setting.requests:
        meter.measure(request)
    parts_P = _decode_rounds(meter, seconds)
    total = parts_P[list(DECODE_PARTS)].sum()
    shares = {part.name.lower(): parts_P[part] / total for part in DECODE_PARTS}
    shares["dispatch"] += shares.pop("read_back")  # lines of one function
    print(json.dumps(shares))


def _decode_rounds(meter: Meter, seconds: float) -> np.ndarray:
    """Milliseconds by part. What is sampled within this function is compared."""
    parts_P = np.zeros(len(Part))
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        for request in meter.setting.requests:
            parts_P += meter.measure(request).breakdown.parts_SP.sum(axis=0)
    return parts_P


def print_result(result: dict[str, Any], console: Console) -> None:
    overhead, engine, sampler = result["overhead"], result["engine"], result["py_spy"]
    low, high = (100 * value for value in overhead["overhead_95"])
    console.print(
        f"recording costs {100 * overhead['overhead']:.2f} % of a step of {overhead['plain_ms']:.2f} ms "
        f"(95 %: {low:.2f} to {high:.2f}, {overhead['pairs']} pairs); {overhead['marks_a_step']:.0f} marks of "
        f"{overhead['mark_us']:.2f} µs are {100 * overhead['marks_share']:.2f} %"
    )
    table = Table("part", "ours ms a step", "ONNX Runtime ms", "ratio", box=None)
    for name, part in engine["parts"].items():
        table.add_row(
            name, f"{part['ours_ms']:.3f}", f"{part['theirs_ms']:.3f}", f"{part['ours_ms'] / part['theirs_ms']:.3f}"
        )
    console.print(table, f"together {engine['together']:.3f}")
    if sampler is None:
        console.print("py-spy is not installed: no comparison with it")
    else:
        table = Table("part", "ours", "py-spy", box=None)
        for name, part in sampler["parts"].items():
            table.add_row(name, f"{100 * part['ours']:.1f} %", f"{100 * part['theirs']:.1f} %")
        console.print(table, f"worst of the parts of 10 % and more: {100 * sampler['worst']:+.1f} %")
    if (cores := result["cores_of_others"]) and cores > 0.1:
        console.print(f"WARNING others kept {cores:.2f} cores busy: repeat on a quiet machine")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=2000, help="pairs of steps that the overhead is taken from")
    parser.add_argument("--seconds", type=float, default=20, help="that py-spy looks on")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_child(Setting.from_dict(json.loads(arguments.child)), arguments.seconds)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.bundle
        if path is None:
            path = Path(folder) / "bundle"
            # In another process: comparing with the oracle sets the thread pool to all cores.
            subprocess.run([sys.executable, "-m", "unimoe.cli", "export", _DEMO, path], check=True)
        bundle = open_bundle(path)
        setting = Setting(bundle=str(path), requests=make_requests(bundle), threads=arguments.threads)
        company = Company()
        result: dict[str, Any] = {
            "machine": describe_machine(),
            "bundle": bundle.path.name,
            "threads": arguments.threads,
        }
        result["engine"] = compare_with_engine(setting)
        result["py_spy"] = compare_with_sampler(setting, arguments.seconds)
        result["overhead"] = measure_overhead(path, arguments.threads, arguments.pairs)
        result["cores_of_others"] = company.cores()
    print_result(result, Console())
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
