"""Many requests that end in every way, several at a time: nothing leaks, hangs, or comes out otherwise.

    python -m benchmarks.soak BUNDLE [--requests N] [--seed N] [--side-by-side N] [--json FILE]

Each request has a text, a seed, a chunk schedule and a memory budget by chance, and is read to its end, slowly or not,
or closed, or cancelled from another thread, or cut by a time limit. What came out is compared with the same request
made as a whole without a budget: all of it where it was finished, its beginning where it was not. Memory is the
process's own (anonymous) after each tenth of the requests; one that takes minutes ends the process with all stacks.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from unimoe_runtime.bundle import open_bundle
from unimoe_runtime.chunks import ChunkSchedule
from unimoe_runtime.errors import BackendError
from unimoe_runtime.profiling.floor import weight_bytes
from unimoe_runtime.profiling.machine import read_memory
from unimoe_runtime.synthesis import Synthesizer

ENDINGS = ("read", "read slowly", "closed", "cancelled", "timed out")
TEXTS = ("flute: C4 E4", "piano: G4", "flute, 160 bpm: C4 E4 G4", "piano, 160 bpm: C5 A4")
TOLERANCE = 1e-5
_HANGS_AFTER_S = 180
_SEEDS = 3
_BUDGETS = (None, 0.5, 0.1)  # shares of all experts' bytes


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One request of the soak."""

    text: str
    seed: int
    budget: float | None
    frames: tuple[int, ...]
    ending: str
    chunks: int

    @classmethod
    def by_chance(cls, chance: random.Random) -> Trial:
        return cls(
            text=chance.choice(TEXTS),
            seed=chance.randrange(_SEEDS),
            budget=chance.choice(_BUDGETS),
            frames=tuple(chance.choice((1, 2, 3, 5, 8, 20, 50)) for _ in range(chance.randint(1, 4))),
            ending=chance.choice(ENDINGS),
            chunks=chance.randrange(4),
        )


def run(synthesizer: Synthesizer, trial: Trial, whole_L: np.ndarray) -> float:
    """The largest difference from the whole. Raises ValueError where a finished request is not all of it."""
    timeout_s = 0.02 * (1 + trial.chunks) if trial.ending == "timed out" else None
    pieces: list[np.ndarray] = []
    timer = None
    try:
        with synthesizer.stream(
            task="music", text=trial.text, seed=trial.seed, schedule=ChunkSchedule(frames=trial.frames),
            timeout_s=timeout_s,
        ) as stream:  # fmt: skip
            if trial.ending == "cancelled":
                timer = threading.Timer(0.01 * trial.chunks, stream.cancel)
                timer.start()
            for chunk in stream:
                pieces.append(chunk.pcm_L)
                if trial.ending == "read slowly" and len(pieces) <= trial.chunks:
                    time.sleep(0.01)
                if trial.ending == "closed" and len(pieces) > trial.chunks:
                    break
    except BackendError:
        if trial.ending != "timed out" or pieces:
            raise
    if timer is not None:
        timer.join()
    pcm_L = np.concatenate([np.zeros(0, np.float32), *pieces])
    if trial.ending.startswith("read") and len(pcm_L) != len(whole_L):
        raise ValueError(f"{trial}: {len(pcm_L)} samples, alone {len(whole_L)}")
    return float(np.abs(pcm_L - whole_L[: len(pcm_L)]).max(initial=0))


def soak(bundle: Path, *, requests: int, seed: int, side_by_side: int) -> dict[str, Any]:
    """Run the trials and tell what came of them. Raises ValueError at the first that comes out otherwise."""
    chance = random.Random(seed)
    trials = [Trial.by_chance(chance) for _ in range(requests)]
    anonymous, threads, largest = [], [], 0.0
    with ExitStack() as opened:
        synthesizers = {
            share: opened.enter_context(Synthesizer.open(bundle, memory_budget_bytes=budget))
            for share, budget in zip(_BUDGETS, _budget_bytes(bundle), strict=True)
        }

        @cache
        def whole(text: str, seed: int) -> np.ndarray:
            return synthesizers[None].synthesize(task="music", text=text, seed=seed).pcm_L

        def difference(trial: Trial) -> float:
            return run(synthesizers[trial.budget], trial, whole(trial.text, trial.seed))

        for trial in trials:
            whole(trial.text, trial.seed)
        baseline = threading.active_count()
        for first in range(0, requests, side_by_side):
            together = trials[first : first + side_by_side]
            faulthandler.dump_traceback_later(_HANGS_AFTER_S, exit=True)
            with ThreadPoolExecutor(side_by_side) as pool:
                largest = max(largest, *pool.map(difference, together))
            faulthandler.cancel_dump_traceback_later()
            if largest > TOLERANCE:
                raise ValueError(f"a stream differs from the whole by {largest:.2g}; one of {together}")
            gc.collect()
            memory = read_memory()
            anonymous.append(memory.anonymous if memory is not None else 0)
            threads.append(threading.active_count() - baseline)
    tenths = [anonymous[(len(anonymous) - 1) * tenth // 10] for tenth in range(1, 11)]
    return {
        "requests": requests,
        "endings": dict(Counter(trial.ending for trial in trials)),
        "budgets": dict(Counter(str(trial.budget) for trial in trials)),
        "largest_difference": largest,
        "anonymous_bytes_by_tenth": tenths,
        "growth_bytes_in_the_second_half": tenths[-1] - tenths[4],
        "threads_left": max(threads[-3:]),
    }


def _budget_bytes(path: Path) -> list[int | None]:
    bundle = open_bundle(path)
    experts = sum(weight_bytes(bundle, graph) for graph in bundle.graphs if ".expert." in graph)
    return [None if share is None else int(share * experts) for share in _BUDGETS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side-by-side", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = soak(
        arguments.bundle, requests=arguments.requests, seed=arguments.seed, side_by_side=arguments.side_by_side
    )
    print(json.dumps(result, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
