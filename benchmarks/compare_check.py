"""Is an interleaved comparison correct? A bundle against itself, and against itself made 5 % slower.

    python -m benchmarks.compare_check BUNDLE [--tries 20] [--slower 1.05] [--json FILE]

Each try is one comparison as `unimoe profile --against` makes it: both sides alternate after a few steps, block after
block, until the interval is narrow. Here both run in one process, so that a wait can slow one side: after each step's
head it spins for the planted share of that step. With the demo's bundle this takes five to ten minutes.
`--only 1 --tries 5` runs a part; further parts with the same --json add to that file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from unimoe_runtime.backends.protocol import Forward, StepInputs
from unimoe_runtime.backends.wrapper import WrappedBackend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_tools.parity.ratios import Verdict
from unimoe_tools.profiling.blocks import Block, compare_blocks, interleave, narrow, quiet_blocks
from unimoe_tools.profiling.compare import Rounds
from unimoe_tools.profiling.machine import describe_machine
from unimoe_tools.profiling.measure import Meter
from unimoe_tools.profiling.record import describe_generation
from unimoe_tools.profiling.workload import Setting, make_requests

_STEPS = 40
_BLOCKS_A_LOOK = 6
_RIGHT = 0.95
_MEASURE = "step_p50_ms"


class _Slowed(WrappedBackend):
    """A backend whose passes take longer by a share `more` of their own time."""

    more = 0.0

    def start(self, num_rows: int) -> Forward:
        forward = super().start(num_rows)
        begin, head, begin_s = forward.begin, forward.head, 0.0

        def timed_begin(inputs: StepInputs) -> None:
            nonlocal begin_s
            begin_s = time.perf_counter()
            begin(inputs)

        def slow_head(tokens_M: NDArray[np.int64]) -> NDArray[np.float32]:
            logits_MKV = head(tokens_M)
            now = time.perf_counter()
            end = now + self.more * (now - begin_s)
            while time.perf_counter() < end:
                pass
            return logits_MKV

        forward.begin, forward.head = timed_begin, slow_head  # type: ignore[method-assign]
        return forward


class _Side:
    """One of the two sides, in this process."""

    def __init__(self, bundle: Path, threads: int | None) -> None:
        requests = make_requests(open_bundle(bundle))
        self.num_requests, self._request = len(requests), requests[0]
        self._meter = Meter(Setting(bundle=str(bundle), requests=requests[:1], threads=threads, steps=_STEPS))
        self._meter.backend = self.slowed = _Slowed(self._meter.backend)

    def begin(self, request: int) -> None:
        self._turns = self._meter.turns(self._request)

    def turn(self) -> dict[str, Any] | None:
        try:
            next(self._turns)
        except StopIteration as end:
            return describe_generation(end.value, self._meter.bundle, repetition=0)
        return None

    def cpu_s(self) -> None:
        """None: both sides run in this process, and its own time is not background load."""

    def model_share(self) -> float:
        """The share of a step from inputs to head, the part that the wait can slow."""
        breakdown = self._meter.measure(self._request).breakdown
        return float(np.median(breakdown.model_ms_S) / np.median(breakdown.step_ms_S))


def check(reference: _Side, candidate: _Side, planted: float, tries: int) -> Iterator[dict[str, Any]]:
    """The comparison of the median step in each try."""
    candidate.slowed.more = (planted - 1) / float(np.median([reference.model_share() for _ in range(5)]))
    for _ in track(range(tries), f"planted {planted:g}", transient=True):
        blocks: list[Block] = []
        # At most as many blocks as the command makes, whose rounds have a block for each request.
        while len(blocks) < Rounds().most * reference.num_requests:
            blocks += [interleave((reference, candidate), 0, first=index % 2) for index in range(_BLOCKS_A_LOOK)]
            one = next(one for one in compare_blocks(blocks) if one.measure == _MEASURE)
            if narrow(blocks, [one]):
                break
        yield {**one.to_dict(), "blocks": len(blocks), "quiet": len(quiet_blocks(blocks))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--slower", type=float, default=1.05)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", type=float, help="this ratio alone: 1, or that of --slower")
    parser.add_argument("--json", type=Path, help="write everything there, after what it holds already")
    arguments = parser.parse_args()
    reference, candidate = (_Side(arguments.bundle, arguments.threads) for _ in range(2))
    results: dict[str, list[dict[str, Any]]] = {}
    if arguments.json and arguments.json.exists():
        results = json.loads(arguments.json.read_text(encoding="utf-8"))["tries"]
    for planted, expected in ((1.0, Verdict.SAME), (arguments.slower, Verdict.SLOWER)):
        found = results.setdefault(f"{planted:g}", [])
        if arguments.only in (None, planted):
            for one in check(reference, candidate, planted, arguments.tries):
                found.append(one)
                if arguments.json:
                    report = {"machine": describe_machine(), "bundle": arguments.bundle.name, "tries": results}
                    arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        if not found:
            continue
        verdicts = Counter(one["verdict"] for one in found)
        right = verdicts[str(expected)]
        ratios = [one["ratio"] for one in found]
        print(
            f"planted {planted:g}: {right} of {len(found)} say {expected!s} ({dict(verdicts)}); ratios "
            f"{min(ratios):.3f} to {max(ratios):.3f}, {np.mean([one['blocks'] for one in found]):.0f} blocks a try: "
            f"{'met' if right >= _RIGHT * len(found) else 'MISSED'}"
        )


if __name__ == "__main__":
    main()
