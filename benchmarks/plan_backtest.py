"""A test of `unimoe plan` on this CPU: predicted against measured steps.

    python -m benchmarks.plan_backtest [--threads 1 2] [--sizes 256x6 512x4 …] [--json FILE] [--markdown FILE]

Models of three sizes (hidden x layers) in float32 and int8, random weights, random text. The prediction uses each
model's configuration, its bytes, and which experts run; the machine's costs come from one layer of these sizes with
other random weights (`unimoe_export.probes`). Each size and thread count has a process, where probe and model
alternate, so that both see the same background load. The script compares median steps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.output import add_output_options, write_outputs
from unimoe_calibration.quantized_probe import quantize_probe
from unimoe_export.exporter import export_bundle
from unimoe_export.probes import write_probe
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.bundle.routing_statistics import parse_activation
from unimoe_tools.planning.host import HostMeter
from unimoe_tools.planning.recording import describe_routing
from unimoe_tools.planning.roofline import Workload, predict, step_bytes
from unimoe_tools.planning.weights import stored_bytes
from unimoe_tools.profiling.machine import BackgroundLoad, describe_machine
from unimoe_tools.profiling.measure import Meter
from unimoe_tools.profiling.workload import ProfileRequest, Setting

from .child import ROOT, environment
from .markdown import machine_line, table
from .workload import model_config, write_checkpoint

_SIZES = ("256x6", "384x6", "1024x2")
_STEPS = 60
_REPETITIONS = 5
_GOAL = 0.2


def write_models(folder: Path, size: str) -> list[tuple[Path, Path]]:
    """Write the model and the probe of a size, in float32 and in int8."""
    hidden, layers = map(int, size.split("x"))
    model = model_config(hidden, num_layers=layers)
    write_checkpoint(folder / size, model)
    exported = export_bundle(folder / size, folder / f"{size}-float32").path
    quantize_probe(open_bundle(exported), folder / f"{size}-int8", "int8")
    probe = write_probe(folder / f"{size}-probe", model)
    quantize_probe(probe, probe.path.parent / "int8", "int8")
    return [(folder / f"{size}-{precision}", probe.path.parent / precision) for precision in ("float32", "int8")]


def measure_pair(path: Path, probe: Path, threads: int | None) -> dict[str, Any]:
    """A bundle's predicted and measured step, in this process."""
    background_cpu_cores = BackgroundLoad()
    setting = Setting(bundle=str(path), requests=(ProfileRequest(task="random"),), threads=threads, steps=_STEPS)
    meter = Meter(setting)
    first = meter.measure(setting.requests[0])
    activation = parse_activation(describe_routing({"random": first.routing}), meter.bundle.model, path.name)
    workload = Workload(cached_positions=first.prompt_tokens + _STEPS // 2)
    weights, model = stored_bytes(meter.bundle), meter.bundle.model
    read = step_bytes(model, weights, activation, workload, launched=activation.mean)
    host = HostMeter(open_bundle(probe), step_bytes=read, positions=workload.cached_positions, threads=threads)
    generations = []
    for _ in range(_REPETITIONS):
        host.run()
        generations.append(meter.measure(setting.requests[0]))
    # The picked experts are an input of the prediction: they come from the compared steps.
    routing = reduce(lambda one, other: one.join(other), (one.routing for one in generations))
    activation = parse_activation(describe_routing({"random": routing}), model, path.name)
    found = predict(model, weights, activation, workload, host.costs())
    meter.close()
    host.close()
    step_ms = float(np.median([one.breakdown.step_ms_S for one in generations]))
    error = 1e3 * found.step_s / step_ms - 1
    return {
        "bundle": path.name,
        "threads": threads,
        "mb_a_step": found.step_bytes / 1e6,
        "experts_a_step": found.launched,
        "predicted_ms": 1e3 * found.step_s,
        "step_ms": step_ms,
        "cores_of_others": background_cpu_cores.cores(),
        "error": error,
        "met": abs(error) <= _GOAL,
    }


def _in_process(path: Path, probe: Path, threads: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.plan_backtest", "--child", path, probe, "--threads", threads]
    done = subprocess.run(
        list(map(str, command)),
        env=environment({"OPENBLAS_NUM_THREADS": str(threads)}),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


COLUMNS = ("bundle", "threads", "MB a step", "experts", "predicted ms", "step ms", "others", "error", "")


def cells(result: dict[str, Any]) -> list[str]:
    """A row of the table."""
    return [
        result["bundle"],
        str(result["threads"]),
        f"{result['mb_a_step']:.0f}",
        f"{result['experts_a_step']:.1f}",
        f"{result['predicted_ms']:.2f}",
        f"{result['step_ms']:.2f}",
        "–" if result["cores_of_others"] is None else f"{result['cores_of_others']:.2f}",
        f"{result['error']:+.0%}",
        "met" if result["met"] else "MISSED",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", type=Path, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sizes", nargs="+", default=_SIZES, metavar="HIDDENxLAYERS")
    add_output_options(parser)
    arguments = parser.parse_args()
    if arguments.child:
        bundle, probe = arguments.child
        json.dump(measure_pair(bundle, probe, arguments.threads[0]), sys.stdout)
        return
    report: dict[str, Any] = {"machine": describe_machine(), "goal": _GOAL, "results": []}
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="unimoe-backtest-") as folder:
        for size in arguments.sizes:
            with console.status(f"{size}: writing"):
                pairs = write_models(Path(folder), size)
            for threads in arguments.threads:
                with console.status(f"{size}, {threads} thread(s)"):
                    report["results"] += [_in_process(*pair, threads) for pair in pairs]
    rows = [cells(result) for result in report["results"]]
    write_outputs(arguments, report, "\n".join([machine_line(report["machine"]), "", *table(COLUMNS, rows)]))
    printed = Table(*COLUMNS, box=None)
    for row in rows:
        printed.add_row(*row)
    Console(width=150).print(printed)
    met = sum(result["met"] for result in report["results"])
    print(f"{met} of {len(rows)} predictions within {_GOAL:.0%}")


if __name__ == "__main__":
    main()
