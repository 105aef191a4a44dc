"""The cost of the safety checks: of the finite check in a decode step, and of a manifest's checks when a bundle opens.

    python -m benchmarks.safety_costs BUNDLE [--before DIR --old BUNDLE] [--rounds N]

Steps: one synthesizer makes the same requests with the check and without it, in turns; the order changes from round to
round. Opening: fresh processes open a bundle in turns, with this code and with that of DIR, a checkout of an earlier
commit; OLD is a bundle that both can open. Ratios come from the same round.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import ROOT, environment
from unimoe_runtime import SynthesisRequest, Synthesizer
from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.model.sampling import guide
from unimoe_runtime.synthesis import drawing

_TEXTS = ("Remind me at seven forty-five.", "call anna tomorrow", "nine one four two", "turn the lights off")
_OPEN = """
import sys, time
try:
    from unimoe_runtime import Synthesizer
except ImportError:
    from unimoe_runtime.synthesis import Synthesizer
import onnxruntime
began = time.perf_counter()
synthesizer = Synthesizer.open(sys.argv[1])
print(1e3 * (time.perf_counter() - began), flush=True)
import os
os._exit(0)
"""


def unchecked(logits_BKV: np.ndarray, paired: bool, sampling: SamplingConfig) -> np.ndarray:
    """`guide` without its finite check."""
    with np.errstate(over="ignore", invalid="ignore"):
        if not paired:
            return logits_BKV.copy()
        if not sampling.guidance_scale:
            return logits_BKV[1::2].copy()
        uncond_UKV, cond_UKV = logits_BKV[0::2], logits_BKV[1::2]
        guided_UKV: np.ndarray = cond_UKV + np.float32(sampling.guidance_scale) * (cond_UKV - uncond_UKV)
        return guided_UKV


def step_ms(synthesizer: Synthesizer, text: str, seed: int, guiding: Callable[..., Any]) -> float:
    """Median milliseconds of a request's decode steps."""
    at: list[float] = []
    vars(drawing)["guide"] = guiding
    try:
        with synthesizer.stream(
            SynthesisRequest(text=text, seed=seed), progress=lambda *_: at.append(time.perf_counter())
        ) as stream:
            for _ in stream:
                pass
    finally:
        vars(drawing)["guide"] = guide
    return 1e3 * float(np.median(np.diff(at)))


def check_us(config: ModelConfig) -> float:
    """Microseconds of the processor that the check takes for one guided pair's logits: the best of many runs."""
    logits_BKV = np.random.default_rng(0).standard_normal((2, config.num_codebooks, config.codec_vocab_size))
    logits_BKV, sampling = logits_BKV.astype(np.float32), SamplingConfig(guidance_scale=2.0)
    best = []
    for guiding in (guide, unchecked):
        timer = timeit.Timer(lambda guiding=guiding: guiding(logits_BKV, True, sampling), timer=time.process_time)  # type: ignore[misc]
        best.append(min(timer.repeat(40, 2000)) / 2000)
    return 1e6 * (best[0] - best[1])


def opening_ms(bundle: Path, tree: Path) -> float:
    """Milliseconds that a fresh process takes to open a bundle, without its imports."""
    command = [sys.executable, "-c", _OPEN, str(bundle)]
    done = subprocess.run(command, env=environment(tree=tree), cwd="/", capture_output=True, text=True, check=True)
    return float(done.stdout)


def in_turns(sides: Sequence[Callable[[int], float]], rounds: int) -> list[list[float]]:
    """The measurements of each side, one a round; the order of a round is random."""
    found: list[list[float]] = [[] for _ in sides]
    rng = random.Random(0)
    for number in range(rounds):
        for place in rng.sample(range(len(sides)), len(sides)):
            found[place].append(sides[place](number))
    return found


def row(name: str, after: Sequence[float], before: Sequence[float]) -> str:
    """A line of the table: medians, and the median ratio with its 95 % interval by resampling rounds."""
    ratios = np.array(after) / np.array(before)
    draws = np.random.default_rng(0).choice(ratios, (4000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return (
        f"| {name} | {statistics.median(before):.3f} | {statistics.median(after):.3f} | {np.median(ratios):.3f} "
        f"({low:.3f} to {high:.3f}) | {len(ratios)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--before", type=Path, help="A checkout of an earlier commit.")
    parser.add_argument("--old", type=Path, help="A bundle that both versions open.")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    print("| what | without, ms | with, ms | ratio (95 %) | rounds |\n| --- | ---: | ---: | ---: | ---: |")
    with Synthesizer.open(options.bundle, threads=2, warm=True) as synthesizer:
        sides: list[Callable[[int], float]] = [
            lambda number, guiding=guiding: step_ms(synthesizer, _TEXTS[number % 4], number, guiding)  # type: ignore[misc]
            for guiding in (guide, unchecked)
        ]
        for side in sides:
            side(0)
        with_it, without = in_turns(sides, options.rounds)
        print(row("decode step, finite check", with_it, without), flush=True)
        alone_us = check_us(synthesizer.bundle.model)
    if options.before is not None:
        bundle = options.old or options.bundle
        sides = [lambda _, tree=tree: opening_ms(bundle, tree) for tree in (ROOT, options.before)]  # type: ignore[misc]
        print(row("opening, against the earlier commit", *in_turns(sides, options.rounds)))
    share = alone_us / 1e3 / min(without)
    print(f"\nThe check alone: {alone_us:.1f} µs of the processor, {100 * share:.2f} % of the fastest request's step.")


if __name__ == "__main__":
    main()
