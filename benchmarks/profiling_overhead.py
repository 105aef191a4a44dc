"""The cost of recording, and its agreement with other profilers of the same run: ONNX Runtime's profiler, py-spy.

python -m benchmarks.profiling_overhead [--bundle DIR] [--threads N] [--pairs N] [--seconds S]
    [--json FILE] [--markdown FILE]

Without a bundle, the script exports the included checkpoint. It uses py-spy where installed (`pip install py-spy`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from benchmarks.output import add_output_options, write_outputs
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import language_model_graphs, open_bundle
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.profiling.kernels import graph_kind, read_kernels, summarize_kernels
from unimoe_tools.profiling.machine import BackgroundLoad, describe_machine
from unimoe_tools.profiling.measure import Generation, Meter
from unimoe_tools.profiling.record import describe_setting
from unimoe_tools.profiling.recorder import Part, RecordedModel, Recorder
from unimoe_tools.profiling.workload import RECORDED_EVERY, Setting, make_requests

_DEMO = Path(__file__).parent.parent / "checkpoints" / "demo"
_ENGINE_PARTS, _ENGINE_ROUNDS = (Part.TRUNK, Part.EXPERT, Part.HEAD), 3
_STEPS_A_PROMPT, _STEPS_A_BLOCK, _STEPS_TO_WARM = 100, 20, 3
_SAMPLES_A_SECOND = 1000
_LARGE_PART = 0.1  # smaller parts have too few samples to resolve a twentieth
_NOT_DECODING = {"prefill", "break_down", "settle", "_prepare", "read_memory"}
# The functions that identify a stack's part, innermost first.
_FUNCTIONS = {
    "trunk": "trunk", "expert": "expert", "head": "head", "_picked": "dispatch", "decode": "codec", "rotary": "inputs",
    "begin": "inputs", "_run": "dispatch", "step": "inputs", "_generate": "sampling",
}  # fmt: skip


class _PlainModel(BundleModel):
    """`BundleModel` with its own copy of the code. The interpreter specializes a function's code for the types that it
    sees: code shared with the recorded model would fit neither, while in real use only one of the two exists."""


for _name, _function in list(vars(BundleModel).items()):
    if isinstance(_function, FunctionType):
        _copy = FunctionType(
            _function.__code__.replace(), _function.__globals__, _name, _function.__defaults__, _function.__closure__
        )
        _copy.__kwdefaults__ = _function.__kwdefaults__
        setattr(_PlainModel, _name, _copy)


def measure_overhead(path: Path, threads: int, pairs: int) -> dict[str, Any]:
    """Steps of a plain and of a recorded model, in alternating blocks, over the same sessions and on the same codes.

    The recorded model's steps that are recorded call by call cost more than its other steps: each kind's median
    difference counts by its share.
    """
    bundle = open_bundle(path)
    backend = open_backend("onnxruntime", bundle, threads=threads)
    backend.load()
    config = bundle.model
    random = np.random.default_rng(0)
    prompt = Prompt.from_rows(list(random.integers(config.text_vocab_size, size=(2, 30))), paired=True)
    seconds: dict[str, list[float]] = {"plain": [], "recorded": []}
    detailed: list[bool] = []
    for phase in itertools.cycle(range(RECORDED_EVERY)):
        if len(detailed) >= pairs and phase == 0:
            break
        recorder = Recorder()
        models = {
            "plain": _PlainModel(backend),
            "recorded": RecordedModel(backend, recorder, every=RECORDED_EVERY, phase=phase),
        }
        for model in models.values():
            model.prefill(prompt)
        codes_SBK = random.integers(config.codebook_size, size=(_STEPS_A_PROMPT, 1, config.num_codebooks)).repeat(2, 1)
        for block, first in enumerate(range(0, _STEPS_A_PROMPT, _STEPS_A_BLOCK)):
            for name in list(models)[:: 1 if block % 2 else -1]:
                for index in range(first, first + _STEPS_A_BLOCK):
                    # CPU time of this thread, which waits for the others by spinning; it excludes the work of
                    # other processes.
                    start = time.thread_time()
                    models[name].step(codes_SBK[index], prompt.first_position_B + np.float32(index))
                    elapsed = time.thread_time() - start
                    if index >= first + _STEPS_TO_WARM:
                        seconds[name].append(elapsed)
                        if name == "plain":
                            detailed.append(index % RECORDED_EVERY == phase)
    plain, recorded, detailed_N = (np.array(values) for values in (*seconds.values(), detailed))
    difference = recorded - plain
    shares = {True: float(detailed_N.mean()), False: float(1 - detailed_N.mean())}

    def cost(draws_N: Any) -> float:
        of_kind = {kind: np.median(difference[draws_N][detailed_N[draws_N] == kind]) for kind in shares}
        return float(sum(share * of_kind[kind] for kind, share in shares.items()) / np.median(plain[draws_N]))

    every = np.arange(len(plain))
    resampled = [cost(random.choice(every, len(every))) for _ in range(1000)]
    return {
        "pairs": len(plain),
        "every": RECORDED_EVERY,
        "plain_ms": 1e3 * float(np.median(plain)),
        "overhead": cost(every),
        "overhead_95": [float(value) for value in np.percentile(resampled, [2.5, 97.5])],
        "detailed_us": 1e6 * float(np.median(difference[detailed_N])),
        "others_us": 1e6 * float(np.median(difference[~detailed_N])),
    }


class _Timed:
    """A session, or its inner object, with bound calls timed at Python's boundary: `calls_ns`, begin and end."""

    def __init__(self, inner: Any, calls_ns: list[tuple[int, int]]) -> None:
        self._inner, self._calls_ns = inner, calls_ns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def _sess(self) -> Any:
        return _Timed(self._inner._sess, self._calls_ns)

    def run_with_iobinding(self, binding: Any, options: Any = None) -> None:
        run = getattr(self._inner, "_sess", self._inner).run_with_iobinding
        binding = getattr(binding, "_iobinding", binding)
        begin_ns = time.perf_counter_ns()
        run(binding, options)
        self._calls_ns.append((begin_ns, time.perf_counter_ns()))


def compare_with_engine(setting: Setting) -> dict[str, Any]:
    """Milliseconds per step in trunks, experts and head, from one run: our part; within it the engine's call by our
    clock at Python's boundary; the same call by ONNX Runtime's profiler. The part minus the call is its launch.
    """
    calls_ns: dict[str, list[tuple[int, int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        meter = Meter(replace(setting, kernels=True), kernel_folder=Path(folder))
        sessions = meter.backend._sessions  # type: ignore[attr-defined]
        for graph in language_model_graphs(meter.bundle.model):
            sessions[graph] = _Timed(sessions[graph], calls_ns.setdefault(graph_kind(graph), []))
        meter.measure(setting.requests[0])
        found = [meter.measure(request) for _ in range(_ENGINE_ROUNDS) for request in setting.requests]
        windows = [one.decode_window_ns for one in found]
        kernels = read_kernels(meter.backend.end_profiling(), windows)  # type: ignore[attr-defined]
    num_steps = sum(one.num_steps for one in found)
    theirs = summarize_kernels(kernels, num_steps)["runs"]
    parts_P = np.sum([one.breakdown.parts_SP.sum(axis=0) for one in found], axis=0) / num_steps
    parts = {}
    for part in _ENGINE_PARTS:
        kind = part.name.lower()
        inside = [end - begin for begin, end in calls_ns[kind] if any(low <= begin < high for low, high in windows)]
        parts[kind] = {"part_ms": parts_P[part], "call_ms": sum(inside) / 1e6 / num_steps, "theirs_ms": theirs[kind]}
    return {
        "parts": parts,
        "worst": max((part["call_ms"] / part["theirs_ms"] - 1 for part in parts.values()), key=abs),
    }


def compare_with_sampler(setting: Setting, seconds: float) -> dict[str, Any] | None:
    """Shares of decoding by our marks and by py-spy's samples of the same process; None without py-spy.

    Every step is recorded call by call, because the samples come from all steps.
    """
    spy = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if spy is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        stacks = Path(folder) / "stacks.txt"
        command = [spy, "record", "--rate", _SAMPLES_A_SECOND, "--idle", "--format", "raw", "--output", stacks, "--",
                   sys.executable, "-m", "benchmarks.profiling_overhead", "--child",
                   json.dumps(replace(setting, every=1).to_dict()),
                   "--seconds", seconds]  # fmt: skip
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
        # py-spy prints its own messages there.
        ours = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
        theirs = _shares_of_samples(stacks.read_text())
    parts = {name: {"ours": share, "theirs": theirs.get(name, 0.0)} for name, share in ours.items()}
    large = [part["ours"] / part["theirs"] - 1 for part in parts.values() if part["ours"] >= _LARGE_PART]
    return {"parts": parts, "worst": max(large, key=abs)}


def _shares_of_samples(text: str) -> dict[str, float]:
    """Shares by part of the samples within `_decode_rounds` and outside the prompts' passes."""
    counts: dict[str, int] = defaultdict(int)
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        functions = [frame.split(" (")[0].rsplit(".", 1)[-1] for frame in stack.split(";")]
        decoding = "_decode_rounds" in functions and not _NOT_DECODING & set(functions)
        if decoding and {"_generate", "decode"} & set(functions):
            part = next(_FUNCTIONS[name] for name in reversed(functions) if name in _FUNCTIONS)
            counts[part] += int(count)
    total = sum(counts.values())
    return {part: count / total for part, count in counts.items()}


def run_child(setting: Setting, seconds: float) -> None:
    """Generate for some seconds and print the shares of decoding according to the marks."""
    meter = Meter(setting)
    for request in setting.requests:
        meter.measure(request)
    generations = _decode_rounds(meter, seconds)
    found = describe_setting(meter.bundle, generations, reads_bytes_per_s=[1.0], reads_model_bytes_per_s=[1.0])
    shares = {name: part["share"] for name, part in found["parts"].items()}
    shares["dispatch"] += shares.pop("read_back")  # both are lines of one function
    del shares["host"]  # its samples include those of this script
    shares = {name: share / sum(shares.values()) for name, share in shares.items()}
    print(json.dumps(shares))


def _decode_rounds(meter: Meter, seconds: float) -> list[Generation]:
    """Decode for some seconds. The comparison counts only samples within this function."""
    generations = []
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        generations += [meter.measure(request) for request in meter.setting.requests]
    return generations


def as_markdown(result: dict[str, Any]) -> str:
    """The report, for the terminal and for benchmarks/results."""
    overhead, engine, sampler, machine = (result[name] for name in ("overhead", "engine", "py_spy", "machine"))
    low, high = (100 * value for value in overhead["overhead_95"])
    cores = result["cores_of_others"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, onnxruntime {machine['onnxruntime']}, {machine['date']}; "
        f"{result['bundle']}, {result['threads']} thread(s); others kept {cores or 0.0:.2f} cores busy",
        "",
        f"Recording costs {100 * overhead['overhead']:.2f} % of a step of {overhead['plain_ms']:.2f} ms "
        f"(95 %: {low:.2f} to {high:.2f}, {overhead['pairs']} pairs): one step of {overhead['every']} takes "
        f"{overhead['detailed_us']:.1f} µs more, the others {overhead['others_us']:.1f} µs.",
        "",
        "| part | ms a step | of it the engine's call | by ONNX Runtime | ratio | launch |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, part in engine["parts"].items():
        whole, call, theirs = (part[f"{which}_ms"] for which in ("part", "call", "theirs"))
        lines.append(f"| {name} | {whole:.3f} | {call:.3f} | {theirs:.3f} | {call / theirs:.3f} | {whole - call:.3f} |")
    if sampler is None:
        return "\n".join([*lines, "", "py-spy is not installed: no comparison with it."]) + "\n"
    lines += ["", "| part | ours | py-spy |", "| --- | --- | --- |"]
    for name, part in sampler["parts"].items():
        lines.append(f"| {name} | {100 * part['ours']:.1f} % | {100 * part['theirs']:.1f} % |")
    lines += ["", f"Of the parts of 10 % and more, the farthest apart are {100 * sampler['worst']:+.1f} %."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=2000, help="pairs of steps that the overhead is taken from")
    parser.add_argument("--seconds", type=float, default=20, help="that py-spy looks on")
    add_output_options(parser)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_child(Setting.from_dict(json.loads(arguments.child)), arguments.seconds)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.bundle
        if path is None:
            path = Path(folder) / "bundle"
            # In another process, because comparing with the oracle sets the thread pool to all cores.
            subprocess.run([sys.executable, "-m", "unimoe.cli", "export", _DEMO, path], check=True)
        bundle = open_bundle(path)
        setting = Setting(bundle=str(path), requests=make_requests(bundle), threads=arguments.threads)
        background_cpu_cores = BackgroundLoad()
        result: dict[str, Any] = {
            "machine": describe_machine(),
            "bundle": bundle.path.name,
            "threads": arguments.threads,
        }
        result["engine"] = compare_with_engine(setting)
        result["overhead"] = measure_overhead(path, arguments.threads, arguments.pairs)
        result["cores_of_others"] = background_cpu_cores.cores()
        result["py_spy"] = compare_with_sampler(setting, arguments.seconds)
    print(as_markdown(result))
    write_outputs(arguments, result, as_markdown(result))


if __name__ == "__main__":
    main()
