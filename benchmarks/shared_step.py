"""Where the CPU time of a step of several streams goes: trunks, experts, head, draws, and the host's own work.

    python -m benchmarks.shared_step NAME=BUNDLE … [--streams 1 8 16] [--steps N] [--markdown FILE]

One thread makes the steps; times are its CPU time, because waiting for other processes does not lengthen it. Each part
is the median over the steps, in microseconds for one stream. `× one` compares a step's time for one stream with that of
a stream alone: its inverse is the most that shared steps can gain on one core. The times of a prompt and of the codec's
chunk of eight frames stand beside them.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.decoding_speed import LoadOfOthers
from unimoe_runtime import SynthesisRequest, Synthesizer, open_bundle
from unimoe_runtime.backends.onnxruntime.backend import OnnxRuntimeBackend
from unimoe_runtime.backends.onnxruntime.forward import BoundForward
from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.synthesis.decoding import Decoding, DecodingLimits, Part
from unimoe_runtime.synthesis.drawing import draw_all
from unimoe_runtime.synthesis.language_model import BundleModel, Embedder
from unimoe_runtime.synthesis.shared_steps import SharedSteps

TEXTS = "Remind me at seven forty-five.", "call anna tomorrow", "nine one four two", "turn the lights off"
PARTS = ("trunks", "experts", "head", "draws", "rest")
_CHUNK_FRAMES = 8


class TimedBackend(OnnxRuntimeBackend):
    """Adds the CPU seconds of each call to `spent`, by part, and counts launched experts."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        super().__init__(bundle, threads=threads)
        self.spent: defaultdict[str, float] = defaultdict(float)
        self.launched = 0

    def start(self, num_rows: int) -> BoundForward:
        return _TimedForward(self, num_rows, self._spares.setdefault(num_rows, []))

    def timed(self, part: str, call: Callable[[], Any]) -> Any:
        """The result of a call."""
        began = time.thread_time()
        try:
            return call()
        finally:
            self.spent[part] += time.thread_time() - began


class _TimedForward(BoundForward):
    def __init__(self, backend: TimedBackend, num_rows: int, spares: list[Any]) -> None:
        super().__init__(backend, num_rows, spares)
        self._timed = backend

    def trunk(self, layer: int) -> Any:
        return self._timed.timed("trunks", lambda: super(_TimedForward, self).trunk(layer))

    def expert(self, layer: int, expert: int, weight_N1: Any) -> None:
        self._timed.launched += 1
        self._timed.timed("experts", lambda: super(_TimedForward, self).expert(layer, expert, weight_N1))

    def head(self, tokens_M: Any) -> Any:
        return self._timed.timed("head", lambda: super(_TimedForward, self).head(tokens_M))


def _read(synthesizer: Synthesizer, number: int, steps: int) -> Decoding:
    """A stream that has read its prompt and decodes for at least `steps` steps."""
    request = SynthesisRequest(text=TEXTS[number % len(TEXTS)], seed=number)
    sampling = replace(synthesizer.sampling("speech"), min_steps=steps, max_steps=2 * steps)
    part = Part(prepared=synthesizer.prepare(request), sampling=sampling)
    limits = DecodingLimits(requested=time.perf_counter())
    decoding = Decoding(BundleModel(synthesizer.backend), iter([part]), seed=number, limits=limits)
    decoding.begin()
    while decoding.reading is not None:
        decoding.read(1 << 20)
    return decoding


def measure(synthesizer: Synthesizer, backend: TimedBackend, num_streams: int, steps: int) -> dict[str, float]:
    """Median CPU microseconds for one stream, by part, with their sum as `step`; `launched`: experts a step."""
    streams = [_read(synthesizer, number, steps) for number in range(num_streams)]
    shared = SharedSteps(backend, Embedder(backend))
    if num_streams > 1:
        for stream in streams:
            shared.join(stream.model)
    found: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(steps):
        backend.spent, backend.launched, began = defaultdict(float), 0, time.thread_time()
        codes, positions = [stream.utterance.codes for stream in streams], [stream.positions for stream in streams]
        if num_streams > 1:
            step = shared.step([stream.model for stream in streams], codes, positions)
            logits_RKV, first_rows = step.logits_RKV, step.first_rows
        else:
            logits_RKV, first_rows = streams[0].model.step_alone(codes[0], positions[0]), [0]
        drawn = backend.timed("draws", lambda: draw_all(logits_RKV, streams, first_rows))  # noqa: B023 (called here)
        for stream, row in zip(streams, drawn, strict=True):
            stream.utterance.accept(row)
        taken_s = time.thread_time() - began
        for part in PARTS[:-1]:
            found[part].append(1e6 * backend.spent[part] / num_streams)
        found["rest"].append(1e6 * (taken_s - sum(backend.spent.values())) / num_streams)
        found["step"].append(1e6 * taken_s / num_streams)
        found["launched"].append(backend.launched)
    for stream in streams:
        if stream.model in shared:
            shared.leave(stream.model)
        stream.free()
    return {name: median(values) for name, values in found.items()}


def beside(synthesizer: Synthesizer) -> tuple[float, float]:
    """Median CPU microseconds of a prompt, and of a chunk of eight frames in the codec."""

    def spent(call: Callable[[], object]) -> float:
        began = time.thread_time()
        call()
        return 1e6 * (time.thread_time() - began)

    codec = synthesizer.codec
    codes_KT = np.zeros((codec.num_codebooks, _CHUNK_FRAMES), np.int64)
    prompts = [spent(lambda number=number: _read(synthesizer, number, 10).free()) for number in range(12)]  # type: ignore[misc]
    decoder = codec.stream()
    return median(prompts), median(spent(lambda: decoder.push(codes_KT)) for _ in range(12))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", metavar="NAME=BUNDLE")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    load = LoadOfOthers()
    columns = ["", "streams", "step", *PARTS, "× one", "experts a step", "a prompt", "a chunk"]
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for given in options.bundles:
        name, _, path = given.partition("=")
        bundle = open_bundle(path)
        backend = TimedBackend(bundle, threads=1)
        backend.load()
        with Synthesizer(bundle, backend) as synthesizer, np.errstate(all="ignore"):
            measure(synthesizer, backend, max(options.streams), 4)
            prompt_us, chunk_us = beside(synthesizer)
            alone = 0.0
            for num_streams in options.streams:
                found = measure(synthesizer, backend, num_streams, options.steps)
                alone = alone or found["step"]
                cells = [f"{found[part]:.0f}" for part in ("step", *PARTS)]
                cells += [
                    f"{found['step'] / alone:.2f}",
                    f"{found['launched']:.0f}",
                    f"{prompt_us:.0f}",
                    f"{chunk_us:.0f}",
                ]
                lines.append(f"| {name} | {num_streams} | " + " | ".join(cells) + " |")
    cores = load.cores()
    text = "\n".join(lines) + f"\n\nCPU µs for one stream; {options.steps} steps each; {load.told(cores)}"
    print(text)
    if options.markdown is not None:
        options.markdown.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
