"""`unimoe plan` put to the test where it can be: predicted against measured steps on this CPU.

    python -m benchmarks.plan_backtest [--threads 1 2] [--json FILE] [--markdown FILE]

Three sizes in float32 and int8, random weights, random text. The machine's costs are measured on the probes of
`unimoe_export.probes`, float32, none of which is one of the models; which experts run is recorded from the models. A
process a thread count, in which probes and models take turns.

Two figures stand for "measured". `step`: the median step, which company on the machine lengthens. `undisturbed`: each
part's lower quartile over its calls, times the calls of a step; what a quiet machine's median comes near to. It is
compared where the machine was not quiet, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from unimoe_calibration.schemes import Engine, LinearPlan, QuantizationPlan, Scheme
from unimoe_calibration.statistics import linears
from unimoe_calibration.writing import write_quantized
from unimoe_export.exporter import export_bundle
from unimoe_export.probes import write_probes
from unimoe_runtime.bundle import open_bundle
from unimoe_runtime.planning.activation import parse_activation
from unimoe_runtime.planning.host import HostMeter
from unimoe_runtime.planning.recording import describe_routing
from unimoe_runtime.planning.roofline import Workload, predict
from unimoe_runtime.planning.weights import stored_bytes
from unimoe_runtime.profiling.breakdown import STEP_PARTS
from unimoe_runtime.profiling.machine import Company, describe_machine
from unimoe_runtime.profiling.measure import Generation, Meter
from unimoe_runtime.profiling.recorder import Part
from unimoe_runtime.profiling.sweep import NOISY_CORES
from unimoe_runtime.profiling.workload import Request, Setting

from .workload import model_config, write_checkpoint

_ROOT = Path(__file__).parent.parent
_SIZES = ((256, 6), (384, 6), (1024, 2))  # hidden, layers
_STEPS = 60
_REPETITIONS = 4
_GOAL = 0.2
_INPUT_RANGE = 4.0  # of int8 inputs: no step's time depends on it


def write_models(folder: Path) -> list[Path]:
    """Bundles of every size, in float32 and int8."""
    bundles = []
    for hidden, layers in _SIZES:
        name = f"{hidden}x{layers}"
        write_checkpoint(folder / name, model_config(hidden, num_layers=layers))
        export_bundle(folder / name, folder / f"{name}-float32")
        bundle = open_bundle(folder / f"{name}-float32")
        plan = LinearPlan(scheme=Scheme.W8A8, input_range=_INPUT_RANGE)
        plans = QuantizationPlan(engine=Engine.ONNXRUNTIME, linears={linear: plan for linear in linears(bundle.model)})
        write_quantized(bundle, folder / f"{name}-int8", plans, {})
        bundles += [folder / f"{name}-float32", folder / f"{name}-int8"]
    return bundles


def measure(folder: Path, bundles: list[Path], threads: int | None) -> list[dict[str, Any]]:
    """Every bundle's predicted and measured step, in this process."""
    probes = folder / "probes" / "probe_128" / "bundle", folder / "probes" / "probe_384" / "bundle"
    return [_measure_bundle(probes, path, threads) for path in bundles]


def _measure_bundle(probes: tuple[Path, Path], path: Path, threads: int | None) -> dict[str, Any]:
    """The machine's costs and the model's steps, in turns: both meet the same company."""
    company, host = Company(), HostMeter(*probes, threads=threads)
    meter = Meter(Setting(bundle=str(path), requests=(Request(task="random"),), threads=threads, steps=_STEPS))
    meter.measure(meter.setting.requests[0])
    generations = []
    for _ in range(_REPETITIONS):
        host.run()
        generations.append(meter.measure(meter.setting.requests[0]))
    meter.close()
    costs, cores = host.costs(), company.cores()
    host.close()
    bundle, last = meter.bundle, generations[-1]
    activation = parse_activation(describe_routing({"random": last.routing}), bundle.model, path.name)
    workload = Workload(cached_positions=last.prompt_tokens + _STEPS // 2)
    found = predict(bundle.model, stored_bytes(bundle), activation, workload, costs.at)
    predicted_ms = 1e3 * found.step_s
    step_ms = float(np.median([one.breakdown.step_ms_S for one in generations]))
    quiet = cores is not None and cores <= NOISY_CORES
    undisturbed_ms = _undisturbed_ms(generations)
    error = predicted_ms / (step_ms if quiet else undisturbed_ms) - 1
    return {
        "bundle": path.name,
        "threads": threads,
        "mb_a_step": found.step_bytes / 1e6,
        "experts_a_step": found.launched,
        "predicted_ms": predicted_ms,
        "step_ms": step_ms,
        "undisturbed_ms": undisturbed_ms,
        "cores_of_others": cores,
        "compared_with": "step" if quiet else "undisturbed",
        "error": error,
        "met": abs(error) <= _GOAL,
    }


def _undisturbed_ms(generations: list[Generation]) -> float:
    """The sum over parts: lower quartile of a call, times calls a step."""
    total = 0.0
    calls: dict[Part, list[np.ndarray]] = {part: [] for part in STEP_PARTS}
    for one in generations:
        seconds_M = np.diff(one.marks.start_ns_M) / 1e6
        part_M = one.marks.part_M[:-1]
        begin = int(np.flatnonzero(part_M == Part.INPUTS)[0])
        for part, found in calls.items():
            found.append(seconds_M[begin:][part_M[begin:] == part])
    for found in calls.values():
        all_calls = np.concatenate(found)
        if len(all_calls):
            total += float(np.percentile(all_calls, 25)) * len(all_calls) / sum(one.num_steps for one in generations)
    return total


def _in_process(folder: Path, bundles: list[Path], threads: int) -> list[dict[str, Any]]:
    roots = [_ROOT, _ROOT / "export", _ROOT / "runtime", _ROOT / "calibration"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, roots)), "OPENBLAS_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "benchmarks.plan_backtest", *bundles, "--child", folder, "--threads", threads]
    done = subprocess.run(list(map(str, command)), env=environment, cwd=_ROOT, stdout=subprocess.PIPE, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


_COLUMNS = ("bundle", "threads", "MB a step", "experts", "predicted ms", "step ms", "undisturbed ms", "error", "")


def cells(result: dict[str, Any]) -> list[str]:
    """A row of the table."""
    return [
        result["bundle"],
        str(result["threads"]),
        f"{result['mb_a_step']:.0f}",
        f"{result['experts_a_step']:.1f}",
        f"{result['predicted_ms']:.2f}",
        f"{result['step_ms']:.2f}",
        f"{result['undisturbed_ms']:.2f}",
        f"{result['error']:+.0%} ({result['compared_with']})",
        "met" if result["met"] else "MISSED",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="*", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="write everything there")
    parser.add_argument("--markdown", type=Path, help="write the table there as Markdown")
    arguments = parser.parse_args()
    if arguments.child:
        json.dump(measure(arguments.child, arguments.bundles, arguments.threads[0]), sys.stdout)
        return
    report: dict[str, Any] = {"machine": describe_machine(), "goal": _GOAL, "results": []}
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="unimoe-backtest-") as temporary:
        folder = Path(temporary)
        with console.status("writing models and probes"):
            write_probes(folder / "probes")
            bundles = write_models(folder)
        for threads in arguments.threads:
            with console.status(f"{threads} thread(s)"):
                report["results"] += _in_process(folder, bundles, threads)
    rows = [cells(result) for result in report["results"]]
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if arguments.markdown:
        lines = [", ".join(f"{key} {value}" for key, value in report["machine"].items()), ""]
        lines += ["| " + " | ".join(_COLUMNS) + " |", "|" + " --- |" * len(_COLUMNS)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        arguments.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = Table(*_COLUMNS, box=None)
    for row in rows:
        table.add_row(*row)
    Console(width=150).print(table)
    met = sum(result["met"] for result in report["results"])
    print(f"{met} of {len(rows)} predictions within {_GOAL:.0%}")


if __name__ == "__main__":
    main()
