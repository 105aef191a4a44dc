"""One decode step of a guided pair on a GPU: ours, the sum of its engines' device time, and PyTorch on the same GPU.

python -m benchmarks.device_step [--hidden 384 2048] [--layers N] [--picked 0 1 2 4 8] [--steps N] [--backend NAME …]
                                 [--precision float16] [--no-torch] [--json FILE] [--markdown FILE]

Writes random models with a settable number of picked experts (`workload`), exports them and, for the backend
tensorrt, builds engines for the local GPU. At hidden 2048 a layer has the published model's sizes.

`engines`: each engine of the step alone, between two events on the device; the sum of the medians of repeated calls.
`graphs`: with CUDA graphs and without. Without a GPU the script says so in one line. It has not run on a GPU yet.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.output import add_output_options, write_outputs
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.gpu.backend import DeviceBackend
from unimoe_runtime.backends.gpu.cuda import CudaDevice
from unimoe_runtime.backends.gpu.device import Pool
from unimoe_runtime.backends.gpu.onnxruntime_engines import OnnxRuntimeEngines, open_onnxruntime_cuda
from unimoe_runtime.backends.gpu.tensorrt_engines import open_tensorrt
from unimoe_runtime.bundle.engine_verification import this_machine
from unimoe_runtime.bundle.reader import DTYPES, Bundle, open_bundle
from unimoe_runtime.errors import BackendError, UnimoeError
from unimoe_runtime.model.generation import LanguageModel
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.profiling.machine import describe_machine

from .workload import ROWS, codes, model_config, prompt, write_checkpoint

BACKENDS = ("onnxruntime-cuda", "tensorrt")
GOAL = 1.3
"""The ratio of a step to the sum of its engines' device time."""
PROMPT_TOKENS = 192
_WARM_STEPS = 5
_CALLS = 20
_DEFAULT_LAYERS = {2048: 1}  # the time of 36 layers of the published size follows from one


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One way to run a step. Milliseconds are medians; `engines_ms` is None for PyTorch."""

    hidden: int
    layers: int
    picked: int
    way: str
    step_ms: float
    engines_ms: float | None = None
    uncaptured: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        return None if self.engines_ms is None else self.step_ms / self.engines_ms


def time_steps(model: LanguageModel, bundle: Bundle, picked: int, steps: int) -> float:
    """Median milliseconds of a step after the prefill."""
    random, seconds = np.random.default_rng(picked), []
    for index in range(_WARM_STEPS + steps):
        codes_BK = codes(bundle.model, picked, random)
        start = time.perf_counter()
        model.step(codes_BK, np.full(ROWS, PROMPT_TOKENS + index, np.float32))
        seconds.append(time.perf_counter() - start)
    return 1e3 * float(np.median(seconds[_WARM_STEPS:]))


def time_engines(backend: DeviceBackend, picked: int, milliseconds: Callable[[Callable[[], None]], float]) -> float:
    """Device milliseconds of a step's engines, each alone with its own copies; the caches stay unchanged.

    Every repetition of an expert adds to the accumulator; the time does not depend on its values.
    """
    workspace = next(iter(backend._workspaces))
    one, model = workspace.decode, backend.bundle.model

    def median(enqueue: Callable[[], None]) -> float:
        times = []
        for _ in range(_CALLS):
            times.append(milliseconds(enqueue))
            one.wait()
        return float(np.median(times))

    total = median(one.head)
    for layer in range(model.num_layers):
        total += median(partial(one.trunk, layer))
        for expert in range(picked):
            weight_N1 = np.full((ROWS, 1), 1 / picked, np.float32)
            total += median(partial(one.expert, layer, expert, weight_N1))
    return total


def measure_ours(
    way: str,
    backend: DeviceBackend,
    picked_counts: list[int],
    steps: int,
    milliseconds: Callable[[Callable[[], None]], float],
) -> list[Measured]:
    """Measure the steps and engines of one backend, and close it."""
    bundle, found = backend.bundle, []
    try:
        backend.load()
        for picked in picked_counts:
            model = BundleModel(backend)
            model.prefill(prompt(bundle.model, PROMPT_TOKENS))
            step_ms = time_steps(model, bundle, picked, steps)
            found.append(
                Measured(
                    hidden=bundle.model.hidden_size, layers=bundle.model.num_layers, picked=picked, way=way,
                    step_ms=step_ms, engines_ms=time_engines(backend, picked, milliseconds),
                    uncaptured=backend.uncaptured(),
                )
            )  # fmt: skip
            del model
    finally:
        backend.close()
    return found


def measure_torch(checkpoint: Path, bundle: Bundle, picked_counts: list[int], steps: int) -> list[Measured]:
    """Eager and compiled PyTorch of `unimoe.model` on the GPU, in float32 without TF32."""
    import torch

    from unimoe.checkpoint import load_model
    from unimoe.generate import TorchLanguageModel

    if not torch.cuda.is_available():
        print("PyTorch here has no CUDA: left out", file=sys.stderr)
        return []
    torch.backends.cuda.matmul.allow_tf32 = False
    found = []
    for way in ("torch, eager", "torch, compiled"):
        module = load_model(checkpoint).to("cuda")
        if way == "torch, compiled":
            module.compile(dynamic=True)
        for picked in picked_counts:
            model = TorchLanguageModel(module)
            model.prefill(prompt(bundle.model, PROMPT_TOKENS))
            found.append(
                Measured(
                    hidden=bundle.model.hidden_size, layers=bundle.model.num_layers, picked=picked, way=way,
                    step_ms=time_steps(model, bundle, picked, steps),
                )
            )  # fmt: skip
    return found


def open_ways(bundle: Bundle, names: list[str]) -> list[tuple[str, Callable[[], DeviceBackend]]]:
    """The ways to run a bundle, by name; each backend opens when its turn comes."""
    ways: list[tuple[str, Callable[[], DeviceBackend]]] = []
    for graphs in (True, False):
        suffix = "" if graphs else ", no graphs"
        if "onnxruntime-cuda" in names:
            ways.append((f"onnxruntime-cuda{suffix}", partial(open_onnxruntime_cuda, bundle, graphs=graphs)))
        if "tensorrt" in names:
            ways.append((f"tensorrt{suffix}", partial(open_tensorrt, bundle, None, graphs=graphs)))
    return ways


def build_for(bundle: Path, capability: tuple[int, int]) -> None:
    """Build engines for the local GPU with the user's own command."""
    from unimoe.cli.group import cli

    cli.main(["build", str(bundle), "--target", f"sm{capability[0]}{capability[1]}"], standalone_mode=False)


def table_of(measured: list[Measured], hidden: int) -> Table:
    layers = next(one.layers for one in measured if one.hidden == hidden)
    table = Table(title=f"hidden {hidden}, {layers} layer(s), a guided pair, {PROMPT_TOKENS} tokens read")
    for name in ("picked", "way", "step ms", "engines ms", "step ÷ engines", f"≤ {GOAL}", "call by call"):
        table.add_column(name, justify="left" if name in ("way", "call by call") else "right")
    for one in measured:
        if one.hidden == hidden:
            ratio = one.ratio
            table.add_row(
                str(one.picked), one.way, f"{one.step_ms:.3f}",
                "" if one.engines_ms is None else f"{one.engines_ms:.3f}",
                "" if ratio is None else f"{ratio:.2f}",
                "" if ratio is None else ("yes" if ratio <= GOAL else "no"),
                f"{len(one.uncaptured)} graphs" if one.uncaptured else "",
            )  # fmt: skip
    return table


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="+", default=[384, 2048])
    parser.add_argument("--layers", type=int, help="default: 8, at hidden 2048 1")
    parser.add_argument("--picked", type=int, nargs="+", default=[0, 1, 2, 4, 8])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--backend", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--precision", choices=tuple(DTYPES), default="float32")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--rehearse", action="store_true", help="run the device loop over host memory, without a GPU")
    add_output_options(parser)
    options = parser.parse_args(arguments)
    if options.rehearse:
        report(rehearse(options), options, gpu={})
        return 0
    try:
        device = CudaDevice()
    except BackendError as error:
        print(f"nothing measured: {error}", file=sys.stderr)
        return 1
    measured: list[Measured] = []
    for hidden in options.hidden:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint, path = Path(folder) / "checkpoint", Path(folder) / "bundle"
            layers = options.layers or _DEFAULT_LAYERS.get(hidden, 8)
            write_checkpoint(checkpoint, model_config(hidden, num_layers=layers))
            export_bundle(checkpoint, path, precision=options.precision)
            bundle = open_bundle(path)
            if "tensorrt" in options.backend:
                build_for(path, device.capability)
            for way, opener in open_ways(bundle, options.backend):
                try:
                    backend = opener()
                except UnimoeError as error:
                    print(f"{way}: left out: {error}", file=sys.stderr)
                    continue
                assert isinstance(backend.device, CudaDevice)
                measured += measure_ours(way, backend, options.picked, options.steps, backend.device.milliseconds)
            if not options.no_torch:
                measured += measure_torch(checkpoint, bundle, options.picked, options.steps)
    report(measured, options, gpu=this_machine())
    device.close()
    return 0


def rehearse(options: argparse.Namespace) -> list[Measured]:
    """Run the steps on a simulated device: host memory and ONNX Runtime's CPU provider. The times mean nothing."""
    from tests.runtime.host_device import HostDevice

    def milliseconds(enqueue: Callable[[], None]) -> float:
        start = time.perf_counter()
        enqueue()
        return 1e3 * (time.perf_counter() - start)

    measured: list[Measured] = []
    for hidden in options.hidden:
        with tempfile.TemporaryDirectory() as folder:
            write_checkpoint(Path(folder) / "checkpoint", model_config(hidden, num_layers=options.layers or 1))
            export_bundle(Path(folder) / "checkpoint", Path(folder) / "bundle", precision=options.precision)
            bundle, device = open_bundle(Path(folder) / "bundle"), HostDevice(eager=True)
            pool = Pool(device)
            engines = OnnxRuntimeEngines(bundle, device, pool, graphs=True)
            backend = DeviceBackend("onnxruntime-cuda", bundle, device, pool, engines)
            measured += measure_ours("host memory", backend, options.picked, options.steps, milliseconds)
    return measured


def report(measured: list[Measured], options: argparse.Namespace, gpu: dict[str, Any]) -> None:
    """Print a table for each size, and write the requested files."""
    console = Console(width=150, record=True)
    for hidden in dict.fromkeys(one.hidden for one in measured):
        console.print(table_of(measured, hidden))
    machine = {**describe_machine(), "gpu": gpu}
    rows = [{**asdict(one), "ratio": one.ratio} for one in measured]
    write_outputs(options, {"machine": machine, "measured": rows}, console.export_text())


if __name__ == "__main__":
    sys.exit(main())
