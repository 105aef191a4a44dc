"""Time to first audio, cold and warm, beside the delay pattern's own minimum; underruns; the spread of steps.

    python -m benchmarks.first_audio BUNDLE [--threads N] [--cold N] [--rounds N] [--json FILE]
    python -m benchmarks.first_audio --hidden 384 [--int8] …      a model of random weights that the script writes

Cold: `unimoe synth -o -` in a fresh process, from its start until the pipe delivers the first samples. Files are in the
page cache and Python's modules compiled, as after an installation's first run. Warm: `Synthesizer.stream` in a
process that has made a request before, from the call to the first chunk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from unimoe_runtime.bundle.reader import Bundle, expert_name, trunk_name
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer
from unimoe_tools.profiling.floor import weight_bytes
from unimoe_tools.profiling.machine import BackgroundLoad, describe_machine, settle
from unimoe_tools.profiling.measure import Meter
from unimoe_tools.profiling.playback import play
from unimoe_tools.profiling.workload import ProfileRequest, Setting

TEXTS = ("Remind me at seven forty-five.", "call anna tomorrow", "nine one four two", "turn the lights off")
_FIRST_BYTES = 64
# A process's stages until its first samples, in seconds since its start. Arguments: bundle, text, threads, and the
# clock at its start.
_STAGES = """
import json, sys, time
path, text, threads, started = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
stages = {}
def reached(name):
    stages[name] = time.perf_counter() - started
reached("python")
import numpy
reached("numpy")
from unimoe_runtime.synthesis.request import SynthesisRequest
from unimoe_runtime.synthesis.synthesizer import Synthesizer
reached("runtime")
import onnxruntime
reached("engine")
synthesizer = Synthesizer.open(path, threads=threads)
reached("open")
stream = synthesizer.stream(SynthesisRequest(text=text))
reached("prompt")
next(stream)
reached("first audio")
print(json.dumps(stages))
"""


def measure_cold(bundle: Path, threads: int, repetitions: int) -> dict[str, Any]:
    """Seconds from the start of a process to its first samples, and one process's stages."""
    with tempfile.TemporaryDirectory(prefix="unimoe-first-audio-") as compiled:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment = {**kept, "PYTHONPYCACHEPREFIX": compiled, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "unimoe.cli", "synth", str(bundle), "--threads", str(threads), "-o", "-"]
        seconds, stages = [], []
        for index in range(repetitions + 1):
            text = TEXTS[index % len(TEXTS)]
            started = time.perf_counter()
            with subprocess.Popen([*command, "--text", text], env=environment, stdout=-1, stderr=-3) as process:
                assert process.stdout is not None
                if len(process.stdout.read(_FIRST_BYTES)) < _FIRST_BYTES:
                    raise SystemExit(f"{bundle}: gives no audio; try `unimoe synth {bundle} --text '{text}' -o a.wav`")
                seconds.append(time.perf_counter() - started)
                process.stdout.read()
            arguments = [str(bundle), text, str(threads), repr(time.perf_counter())]
            done = subprocess.run([sys.executable, "-c", _STAGES, *arguments], env=environment, capture_output=True)
            stages.append(json.loads(done.stdout))
    # The first run of each compiles Python's modules.
    return {
        "first_audio_s": seconds[1:],
        "stages_s": {name: float(np.median([run[name] for run in stages[1:]])) for name in stages[0]},
    }


def measure_warm(bundle: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Each request's time to first audio with its bound, real-time factor and underruns, and the steps' ratios."""
    requests = []
    with Synthesizer.open(bundle, threads=threads, warm=True) as synthesizer:
        for index in range(rounds + 1):
            settle()
            requests.append(_stream(synthesizer, TEXTS[index % len(TEXTS)], seed=index))
        overlap = _overlap(synthesizer, rounds)
    meter = Meter(Setting(bundle=str(bundle), requests=tuple(map(_request, TEXTS)), threads=threads, every=1))
    steps = _step_ratios(meter, rounds)
    meter.close()
    return {"requests": requests[1:], "overlap_over_inline": overlap, **steps}


def _request(text: str) -> ProfileRequest:
    return ProfileRequest(task="speech", text=text)


def _stream(synthesizer: Synthesizer, text: str, seed: int) -> dict[str, Any]:
    asked = time.perf_counter()
    ready = []
    with synthesizer.stream(SynthesisRequest(text=text, seed=seed)) as stream:
        for chunk in stream:
            ready.append((1e3 * (time.perf_counter() - asked), 1e3 * len(chunk.pcm_L) / stream.sample_rate_hz))
            if len(ready) == 1:
                first_codec_ms = 1e3 * stream.outcome.codec_s
    outcome = stream.outcome
    step_ms = 1e3 * outcome.decode_s / (outcome.routing.steps - 1)
    steps = stream.first_chunk_steps  # the prefill's figure includes the first of them
    playback = play(ready)
    assert playback is not None
    return {
        "first_audio_ms": 1e3 * outcome.first_audio_s,
        "first_chunk_steps": steps,
        "bound_ms": 1e3 * outcome.prefill_s + (steps - 1) * step_ms + first_codec_ms,
        "prefill_ms": 1e3 * outcome.prefill_s,
        "first_codec_ms": first_codec_ms,
        "step_ms": step_ms,
        "rtf": outcome.rtf,
        "audio_s": outcome.audio_s,
        "underruns": playback.underruns,
        "slack_ms": playback.slack_ms,
        "launched_a_step": outcome.routing.experts_per_step,
    }


def _overlap(synthesizer: Synthesizer, rounds: int) -> list[float]:
    """For the same request, the real-time factor with the codec in a thread over that with the codec between steps."""
    ratios = []
    for index in range(rounds):
        rtf = {}
        for overlap in (True, False) if index % 2 else (False, True):
            synthesizer.overlap = overlap
            settle()
            rtf[overlap] = _stream(synthesizer, TEXTS[index % len(TEXTS)], seed=index)["rtf"]
        ratios.append(rtf[True] / rtf[False])
    return ratios


def _step_ratios(meter: Meter, rounds: int) -> dict[str, Any]:
    """Each step's time over the bytes of its graphs: p99 against the median, independent of the number of picks."""
    step_ms, num_bytes = [], []
    for index in range(rounds + 1):
        generation = meter.measure(_request(TEXTS[index % len(TEXTS)]))
        if index:
            step_ms.append(generation.breakdown.step_ms_S)
            num_bytes.append(_bytes_S(meter.bundle, generation.routing.launched_SLR))
    ms_S, ratio_S = np.concatenate(step_ms), np.concatenate(step_ms) / np.concatenate(num_bytes)
    median, p99 = np.percentile(ratio_S, [50, 99])
    return {
        "step_p50_ms": float(np.median(ms_S)),
        "step_p99_ms": float(np.percentile(ms_S, 99)),
        "step_to_its_floor_p99_over_median": float(p99 / median),
    }


def _bytes_S(bundle: Bundle, launched_SLR: np.ndarray) -> np.ndarray:
    layers = range(bundle.model.num_layers)
    always = weight_bytes(bundle, "head") + sum(weight_bytes(bundle, trunk_name(layer)) for layer in layers)
    expert_LR = [
        [weight_bytes(bundle, expert_name(layer, expert)) for expert in range(bundle.model.num_routed_experts)]
        for layer in layers
    ]
    return always + (launched_SLR * np.array(expert_LR)).sum(axis=(1, 2))


def tables(result: dict[str, Any]) -> list[Table]:
    cold, requests = result["cold"], result["warm"]["requests"]
    first = Table("", "median", "best", "worst", title="time to first audio", title_justify="left", box=None)
    rows = {
        "cold, ms": [1e3 * value for value in cold["first_audio_s"]],
        "warm, ms": [request["first_audio_ms"] for request in requests],
        "bound of the delay, ms": [request["bound_ms"] for request in requests],
        "warm over its bound": [request["first_audio_ms"] / request["bound_ms"] for request in requests],
        "prefill and first step, ms": [request["prefill_ms"] for request in requests],
        "step, ms": [request["step_ms"] for request in requests],
        "steps to the first chunk": [request["first_chunk_steps"] for request in requests],
        "codec, first chunk, ms": [request["first_codec_ms"] for request in requests],
        "real-time factor": [request["rtf"] for request in requests],
        "real-time factor, codec in a thread over in between": result["warm"]["overlap_over_inline"],
        "underruns": [request["underruns"] for request in requests],
        "slack, ms": [request["slack_ms"] for request in requests if request["slack_ms"] is not None],
    }
    for name, values in rows.items():
        if not values:  # --cold 0
            continue
        first.add_row(name, *(f"{value:.4g}" for value in (np.median(values), min(values), max(values))))
    stages = Table("", "ms since the start", "ms", title="a cold start", title_justify="left", box=None)
    before = 0.0
    for name, seconds in cold["stages_s"].items():
        stages.add_row(name, f"{1e3 * seconds:.0f}", f"{1e3 * (seconds - before):.0f}")
        before = seconds
    return [first, stages]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--hidden", type=int, help="measure a model of random weights of this width instead")
    parser.add_argument("--int8", action="store_true", help="with --hidden: its W8A8 bundle")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--cold", type=int, default=8, help="cold starts")
    parser.add_argument("--rounds", type=int, default=20, help="warm requests")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if (arguments.bundle is None) == (arguments.hidden is None):
        parser.error("give either a bundle or --hidden")
    if arguments.int8 and arguments.hidden is None:
        parser.error("--int8 goes with --hidden; of your own model give the calibrated bundle")
    with tempfile.TemporaryDirectory(prefix="unimoe-first-audio-") as folder:
        bundle = arguments.bundle
        if bundle is None:
            from .speaking_model import write_speaking_bundle

            bundle = write_speaking_bundle(Path(folder), arguments.hidden)
            if arguments.int8:
                from .quantized import write_int8

                write_int8(bundle, Path(folder) / "int8")
                bundle = Path(folder) / "int8"
        background_cpu_cores = BackgroundLoad()
        result = {
            "bundle": str(arguments.bundle or f"random weights, hidden {arguments.hidden}{', int8' * arguments.int8}"),
            "threads": arguments.threads,
            "warm": measure_warm(bundle, arguments.threads, arguments.rounds),
            "cold": measure_cold(bundle, arguments.threads, arguments.cold),
            "cores_of_others": background_cpu_cores.cores(),
            "machine": describe_machine(),
        }
    console = Console()
    for table in tables(result):
        console.print(table)
    warm = result["warm"]
    console.print(
        f"a step: p50 {warm['step_p50_ms']:.2f} ms, p99 {warm['step_p99_ms']:.2f} ms; over the bytes it ran, p99 is "
        f"{warm['step_to_its_floor_p99_over_median']:.2f} × the median; others kept {result['cores_of_others']:.2f} "
        "cores busy",
        highlight=False,
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
