"""The engine's own profiler: its kernel times, converted to our clock."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unimoe_runtime.errors import BackendError

RUN = "model_run"
"""ONNX Runtime's event for one call of a graph, including its kernels."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One kernel, or one whole call of a graph (`operator` is then RUN), on our clock: perf_counter_ns."""

    graph: str
    name: str
    operator: str
    start_ns: int
    duration_ns: int
    thread: int


def graph_kind(graph: str) -> str:
    """layers.3.expert.1 is an expert, layers.3.trunk a trunk, any other graph its own kind."""
    return next((kind for kind in ("trunk", "expert") if f".{kind}" in graph), graph)


def read_kernels(profiles: Mapping[str, tuple[Path, int]], windows_ns: Sequence[tuple[int, int]]) -> list[Kernel]:
    """Kernels that began in one of the windows (perf_counter_ns), in order of time.

    `profiles`: each graph's file and its time 0 in nanoseconds of the system's clock, from `end_profiling`.
    Raises BackendError where a file is not a profile.
    """
    to_ours_ns = _clock_offset_ns()
    kernels = []
    for graph, (path, zero_ns) in profiles.items():
        try:
            events = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BackendError(f"{path}: ONNX Runtime's profile cannot be read ({error})") from None
        for event in events:
            is_kernel = event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
            if not is_kernel and event["name"] != RUN:
                continue
            start_ns = zero_ns + 1000 * int(event["ts"]) + to_ours_ns
            if any(begin <= start_ns < end for begin, end in windows_ns):
                kernels.append(_kernel(graph, event, start_ns))
    return sorted(kernels, key=lambda kernel: kernel.start_ns)


def _kernel(graph: str, event: Mapping[str, Any], start_ns: int) -> Kernel:
    return Kernel(
        graph=graph,
        name=event["name"].removesuffix("_kernel_time"),
        operator=event["args"].get("op_name", RUN),
        start_ns=start_ns,
        duration_ns=1000 * int(event["dur"]),
        thread=int(event["tid"]),
    )


def _clock_offset_ns() -> int:
    """perf_counter_ns - time_ns, from the closest of some readings. Both clocks run at the same rate."""
    readings = []
    for _ in range(50):
        before_ns, wall_ns, after_ns = time.perf_counter_ns(), time.time_ns(), time.perf_counter_ns()
        readings.append((after_ns - before_ns, (before_ns + after_ns) // 2 - wall_ns))
    return min(readings)[1]


def summarize_kernels(kernels: Iterable[Kernel], num_steps: int) -> dict[str, Any]:
    """Calls and time per step by kind of graph and operator, and the engine's own time for whole calls (`runs`)."""
    ms: dict[tuple[str, str], float] = defaultdict(float)
    calls: dict[tuple[str, str], int] = defaultdict(int)
    for kernel in kernels:
        key = (graph_kind(kernel.graph), kernel.operator)
        ms[key] += kernel.duration_ns / 1e6
        calls[key] += 1
    rows = [
        {"graph": graph, "operator": operator, "calls_a_step": calls[key] / num_steps, "ms_a_step": total / num_steps}
        for key, total in sorted(ms.items(), key=lambda item: -item[1])
        for graph, operator in (key,)
    ]
    return {
        "operators": [row for row in rows if row["operator"] != RUN],
        "runs": {row["graph"]: row["ms_a_step"] for row in rows if row["operator"] == RUN},
    }
