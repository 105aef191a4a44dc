"""Does an interleaved comparison say what is true? A bundle against itself, and against itself made 5 % slower.

    python -m benchmarks.compare_check BUNDLE [--tries 20] [--slower 1.05] [--json FILE]

Each try is one comparison as `unimoe profile --against` makes it: blocks of reference, candidate, candidate,
reference, in one process here, so that the slower one can be made by a wait: after each step's head it spins for the
planted share of the reference's median step. Takes two to four minutes with the demo's bundle on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from unimoe_runtime.backends import Array, Backend, Forward
from unimoe_runtime.bundle import Bundle, open_bundle
from unimoe_runtime.profiling.compare import Figures, Verdict, compare_blocks, figures_of, interleave
from unimoe_runtime.profiling.machine import describe_machine
from unimoe_runtime.profiling.measure import Meter
from unimoe_runtime.profiling.record import describe_generation
from unimoe_runtime.profiling.workload import Setting, make_requests

_STEPS = 40
_BLOCKS = 12
_RIGHT = 0.95
_MEASURE = "step_p50_ms"


class _Slowed:
    """A backend whose steps take `wait_s` longer."""

    def __init__(self, backend: Backend) -> None:
        self.name, self.bundle, self._backend = backend.name, backend.bundle, backend
        self.wait_s = 0.0

    bundle: Bundle

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self._backend.run(graph, inputs)

    def start(self, num_rows: int) -> Forward:
        forward = self._backend.start(num_rows)
        head = forward.head

        def slow_head(tokens_M: NDArray[np.int64]) -> NDArray[np.float32]:
            logits_MKV = head(tokens_M)
            end = time.perf_counter() + self.wait_s
            while time.perf_counter() < end:
                pass
            return logits_MKV

        forward.head = slow_head  # type: ignore[method-assign]
        return forward

    def load(self) -> None:
        self._backend.load()

    def close(self) -> None:
        self._backend.close()


class _Run:
    """One of the two sides: a meter, and its figures of one round."""

    def __init__(self, bundle: Path, threads: int | None) -> None:
        requests = make_requests(open_bundle(bundle))[:1]
        self._meter = Meter(Setting(bundle=str(bundle), requests=requests, threads=threads, steps=_STEPS))
        self._meter.backend = self.slowed = _Slowed(self._meter.backend)
        self._request = requests[0]

    def __call__(self) -> Figures:
        generation = self._meter.measure(self._request)
        return figures_of([describe_generation(generation, self._meter.bundle, repetition=0)])


def check(reference: _Run, candidate: _Run, planted: float, tries: int) -> list[dict[str, Any]]:
    """The comparison of each try, of the median step."""
    found = []
    step_ms = float(np.median([reference()[_MEASURE] for _ in range(5)]))
    candidate.slowed.wait_s = (planted - 1) * step_ms / 1e3
    for _ in track(range(tries), f"planted {planted:g}", transient=True):
        comparisons = compare_blocks([interleave(reference, candidate) for _ in range(_BLOCKS)])
        found.append(next(one.to_dict() for one in comparisons if one.measure == _MEASURE))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--slower", type=float, default=1.05)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write everything there")
    arguments = parser.parse_args()
    reference, candidate = (_Run(arguments.bundle, arguments.threads) for _ in range(2))
    reference(), candidate()
    results = {}
    for planted, expected in ((1.0, Verdict.SAME), (arguments.slower, Verdict.SLOWER)):
        found = check(reference, candidate, planted, arguments.tries)
        verdicts = Counter(one["verdict"] for one in found)
        right = verdicts[str(expected)]
        results[f"{planted:g}"] = found
        ratios = [one["ratio"] for one in found]
        print(
            f"planted {planted:g}: {right} of {arguments.tries} say {expected!s} ({dict(verdicts)}); ratios "
            f"{min(ratios):.3f} to {max(ratios):.3f}: {'met' if right >= _RIGHT * arguments.tries else 'MISSED'}"
        )
    if arguments.json:
        report = {"machine": describe_machine(), "bundle": str(arguments.bundle), "tries": results}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
