"""Building 288 full-size expert engines with TensorRT-RTX: seconds, memory, and faster options. Needs no GPU.

    python -m benchmarks.engine_builds --folder DIR [--precision float16 int8] [--jobs 1 2] [--json F] [--markdown F]
    python -m benchmarks.engine_builds --folder DIR --only-options --markdown F

The experts have the published model's shape (hidden 2048, intermediate 2752). The script writes eight experts of random
weights and links them into 36 layers; it really builds each of the 288 engines. DIR holds at most 21 GB, and is empty
afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.markdown import table
from benchmarks.output import add_output_options, write_outputs
from benchmarks.workload import model_config, write_checkpoint
from unimoe_calibration.schemes import Engine, LinearPlan, QuantizationPlan, Scheme
from unimoe_calibration.statistics import linears
from unimoe_calibration.writing import write_quantized
from unimoe_export.engines.building import checked_keys
from unimoe_export.engines.compiling import TIMING_CACHE, Recipe, compile_graph, rewritten
from unimoe_export.engines.flavours import Toolkit, open_flavour
from unimoe_export.engines.jobs import Job, list_jobs
from unimoe_export.engines.sizes import Limits
from unimoe_export.engines.workers import Workers
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.engine_sets import EngineRecord
from unimoe_runtime.bundle.reader import MANIFEST, Bundle, GraphInfo, open_bundle

LAYERS = 36
CAPABILITY = (8, 6)
# Builder settings that might save time. One expert is built with each setting and with none, interleaved.
Option = Callable[[Any, Any, Any], object]
OPTIONS: dict[str, Option | None] = {
    "as unimoe build": lambda trt, builder, config: None,
    "without Polygraphy": None,
    "optimization level 0": lambda trt, builder, config: setattr(config, "builder_optimization_level", 0),
    "optimization level 5": lambda trt, builder, config: setattr(config, "builder_optimization_level", 5),
    "4 builder threads": lambda trt, builder, config: setattr(builder, "max_threads", 4),
    "no compilation cache": lambda trt, builder, config: config.set_flag(trt.BuilderFlag.DISABLE_COMPILATION_CACHE),
}


def write_bundle(folder: Path, precision: str) -> Bundle:
    """A bundle of one full-size layer with 8 experts."""
    config = replace(
        model_config(2048, num_layers=1),
        num_heads=16, head_dim=128, routed_intermediate_size=2752, shared_intermediate_size=1376,
    )  # fmt: skip
    write_checkpoint(folder / "checkpoint", config)
    plain = "float32" if precision == "int8" else precision
    export_bundle(folder / "checkpoint", folder / plain, precision=plain)
    bundle = open_bundle(folder / plain)
    if precision == "int8":
        plan = LinearPlan(scheme=Scheme.W8A8, input_range=6.0)
        plans = dict.fromkeys(linears(bundle.model), plan)
        write_quantized(bundle, folder / "int8", QuantizationPlan(engine=Engine.TENSORRT, linears=plans), {})
        shutil.rmtree(folder / plain)
    shutil.rmtree(folder / "checkpoint")
    return open_bundle(folder / precision)


def repeat_layer(bundle: Bundle) -> Bundle:
    """The bundle with its layer linked 36 times."""
    manifest = json.loads((bundle.path / MANIFEST).read_text())
    manifest["model"]["num_layers"] = LAYERS
    first = {name: info for name, info in manifest["graphs"].items() if name.startswith("layers.0.")}
    for layer in range(1, LAYERS):
        (bundle.path / f"layers/{layer:02}").mkdir()
        for name, info in first.items():
            moved = {field: info[field].replace("layers/00", f"layers/{layer:02}") for field in ("file", "weights")}
            for field, file in moved.items():
                os.link(bundle.path / info[field], bundle.path / file)
                manifest["files"][file] = manifest["files"][info[field]]
            manifest["graphs"][name.replace("layers.0.", f"layers.{layer}.")] = {**info, **moved}
    (bundle.path / MANIFEST).write_text(json.dumps(manifest))
    return open_bundle(bundle.path)


class PeakMemory:
    """Peak memory of this process and its children together; shared pages count once."""

    def __init__(self) -> None:
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.25):
            here = Path(f"/proc/{os.getpid()}")
            children = (here / f"task/{os.getpid()}/children").read_text().split()
            self.bytes = max(self.bytes, sum(map(_held, [str(os.getpid()), *children])))


def _held(process: str) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def build_experts(bundle: Bundle, jobs: Sequence[Job], num_workers: int, folder: Path) -> dict[str, Any]:
    """Build these engines and check them as a rebuild does. Returns seconds, bytes and memory."""
    start = time.perf_counter()
    records: dict[str, EngineRecord] = {}
    with PeakMemory() as memory, Workers(jobs, bundle.path, folder, "tensorrt-rtx", num_workers) as workers:
        for job, record, problem in workers.outcomes():
            if record is None:
                raise SystemExit(f"{job.key}: {problem}")
            records[job.key] = record
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    assert checked_keys(records, folder) == set(records)
    return {
        "workers": num_workers,
        "engines": len(records),
        "seconds": seconds,
        "seconds_an_engine": statistics.median(record.seconds for record in records.values()),
        "bytes": sum(record.bytes for record in records.values()),
        "peak_memory_bytes": memory.bytes,
        "rebuild_seconds": time.perf_counter() - start,
    }


def compare_options(bundle: Bundle, job: Job, rounds: int) -> dict[str, float]:
    """Median seconds of one build with each of OPTIONS, interleaved."""
    toolkit = open_flavour("tensorrt-rtx")
    seconds: dict[str, list[float]] = {name: [] for name in OPTIONS}
    for _ in range(rounds):
        for name in OPTIONS:
            seconds[name].append(_build_once(toolkit, bundle, job, OPTIONS[name]))
    return {name: statistics.median(values) for name, values in seconds.items()}


def _build_once(toolkit: Toolkit, bundle: Bundle, job: Job, option: Option | None) -> float:
    start = time.perf_counter()
    info = bundle.graph(job.graph)
    path = bundle.path / info.file
    if option is None:
        assert build_directly(toolkit, path, info, job.recipe) is not None
    else:
        adjust = partial(option, toolkit.trt)
        assert compile_graph(toolkit, path, info, job.recipe, bundle.path / TIMING_CACHE, adjust).plan is not None
    return time.perf_counter() - start


def build_directly(toolkit: Toolkit, path: Path, info: GraphInfo, recipe: Recipe) -> Any:
    """The same engine by TensorRT-RTX's own API: what Polygraphy's loaders cost is the difference."""
    trt = toolkit.trt
    builder = trt.Builder(toolkit.log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, toolkit.log)
    assert parser.parse(rewritten(path, recipe).SerializeToString(), str(path))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, "SM{}{}".format(*CAPABILITY)), 0)
    config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.max_aux_streams = 0
    profile = builder.create_optimization_profile()
    for name, shapes in recipe.profile(info).items():
        profile.set_shape(name, *shapes)
    config.add_optimization_profile(profile)
    return builder.build_serialized_network(network, config)


def markdown(report: dict[str, Any]) -> str:
    """The report as a page."""
    only_options = not any(found["runs"] for found in report["precisions"].values())
    lines = [
        "# How an engine is built" if only_options else "# Engines of 288 full-size experts",
        "",
        f"`{report['command']}`",
        "",
        f"TensorRT-RTX {report['tensorrt_rtx']}, compute capability {'.'.join(map(str, CAPABILITY))}, "
        f"{report['cores']} cores, no GPU. Hidden 2048, intermediate 2752.",
    ]
    if not only_options:
        lines += [
            "",
            "| precision | builders | engines | seconds | s an engine | GB | peak memory GB | rebuild s |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
    for precision, found in report["precisions"].items():
        lines += [
            f"| {precision} | {run['workers']} | {run['engines']} | {run['seconds']:.1f} | "
            f"{run['seconds_an_engine']:.2f} | {run['bytes'] / 1e9:.2f} | {run['peak_memory_bytes'] / 1e9:.2f} | "
            f"{run['rebuild_seconds']:.1f} |"
            for run in found["runs"]
        ]
    rows = [[name, *(f"{found['options'][name]:.3f}" for found in report["precisions"].values())] for name in OPTIONS]
    lines += [
        "",
        "One expert, median seconds of a build in turns:",
        "",
        *table(["option", *report["precisions"]], rows),
    ]
    if not only_options:
        lines += [
            "",
            "Builders: processes at work. Memory: the command's and its builders' together, shared pages once. "
            "Rebuild: finding all of them up to date by SHA-256.",
        ]
    return "\n".join(lines) + "\n"


def measure(bundle: Bundle, workers: Sequence[int], few: int, rounds: int) -> dict[str, Any]:
    """Build all experts with the last of `workers` and `few` with the others; compare options on one expert. With
    `few` 0 only the options are compared."""
    limits = Limits(cache_capacities=(1024,))
    jobs = [job for job in list_jobs(bundle, (CAPABILITY,), limits, "benchmark") if ".expert." in job.graph]
    runs = []
    for count in workers if few else ():
        folder = bundle.path / "engines"
        runs.append(build_experts(bundle, jobs if count == workers[-1] else jobs[:few], count, folder))
        shutil.rmtree(folder)
    return {"runs": runs, "options": compare_options(bundle, jobs[0], rounds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--precision", nargs="+", choices=("float16", "int8"), default=["float16", "int8"])
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--few", type=int, default=8, help="engines for all but the last of --jobs")
    parser.add_argument("--only-options", action="store_true", help="compare options on one expert, build no set")
    parser.add_argument("--rounds", type=int, default=3)
    add_output_options(parser)
    arguments = parser.parse_args()
    console = Console(stderr=True)
    report: dict[str, Any] = {
        "command": "python -m benchmarks.engine_builds --folder DIR" + " --only-options" * arguments.only_options,
        "tensorrt_rtx": open_flavour("tensorrt-rtx").version,
        "cores": os.cpu_count(),
        "precisions": {},
    }
    for precision in arguments.precision:
        folder = arguments.folder / precision
        folder.mkdir(parents=True)
        try:
            with console.status(f"writing random experts, {precision}"):
                bundle = repeat_layer(write_bundle(folder, precision))
            with console.status(f"building, {precision}"):
                report["precisions"][precision] = measure(
                    bundle, arguments.jobs, 0 if arguments.only_options else arguments.few, arguments.rounds
                )
        finally:
            shutil.rmtree(folder)
        write_outputs(arguments, report, markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
