"""A Chrome trace of a generation, for Perfetto (ui.perfetto.dev) and chrome://tracing.

Each setting is a process, each thread or stream a track. On the host's track a request contains its steps, a step its
parts, and a part the engine's kernels.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from unimoe_tools.profiling.kernels import RUN, Kernel
from unimoe_tools.profiling.measure import Generation
from unimoe_tools.profiling.recorder import Part

Event = dict[str, Any]


def host_events(generation: Generation, process: int) -> list[Event]:
    """The recorded marks as complete events, with request, prefill and steps around them."""
    thread = threading.get_native_id()
    marks = generation.marks
    start_us = marks.start_ns_M / 1e3
    steps = np.flatnonzero(marks.begins_M)
    end_us = float(start_us[-1])

    def event(name: str, kind: str, begin_us: float, finish_us: float, **details: Any) -> Event:
        return {
            "name": name, "cat": kind, "ph": "X", "ts": round(float(begin_us), 3),
            "dur": round(float(finish_us - begin_us), 3), "pid": process, "tid": thread, "args": details,
        }  # fmt: skip

    request = generation.request
    events = [
        event(f"{request.task}: {generation.caption}", "request", start_us[0], end_us, seed=request.seed),
        event("prefill", "prefill", start_us[0], start_us[steps[0]], tokens=generation.prompt_tokens),
    ]
    # A step ends where the codes are drawn; codec and host come after it.
    after = np.flatnonzero(np.isin(marks.part_M, (Part.HOST, Part.END)))
    for number, first in enumerate(steps):
        events.append(event(f"step {number}", "step", start_us[first], start_us[after[after > first][0]]))
    for index in range(len(start_us) - 1):
        part, layer, expert = Part(marks.part_M[index]), marks.layer_M[index], marks.expert_M[index]
        events.append(event(_name(part, layer, expert), part.name.lower(), start_us[index], start_us[index + 1]))
    return events


def _name(part: Part, layer: int, expert: int) -> str:
    match part:
        case Part.TRUNK:
            return f"layers.{layer}.trunk"
        case Part.EXPERT:
            return f"layers.{layer}.expert.{expert}"
        case Part.READ_BACK:
            return "router read-back"
        case Part.PREFILL:
            return "prompt inputs"
        case Part.STEP:
            return "inputs to head"
    return part.name.lower()


def kernel_events(kernels: Sequence[Kernel], process: int) -> list[Event]:
    """The engine's kernels and calls, each on the track of its thread."""
    return [
        {
            "name": f"{kernel.graph} (engine)" if kernel.operator == RUN else kernel.name,
            "cat": "engine" if kernel.operator == RUN else "kernel",
            "ph": "X", "ts": round(kernel.start_ns / 1e3, 3), "dur": kernel.duration_ns / 1e3, "pid": process,
            "tid": kernel.thread, "args": {"graph": kernel.graph, "operator": kernel.operator},
        }
        for kernel in kernels
    ]  # fmt: skip


def track_names(events: Sequence[Event], process: int, title: str) -> list[Event]:
    """The names of the process and its tracks in Perfetto; the host's track comes first."""
    host = threading.get_native_id()
    names: list[Event] = [{"name": "process_name", "ph": "M", "pid": process, "args": {"name": title}}]
    for thread in dict.fromkeys([host, *(event["tid"] for event in events)]):
        name = "host" if thread == host else f"engine thread {thread}"
        names.append({"name": "thread_name", "ph": "M", "pid": process, "tid": thread, "args": {"name": name}})
    return names
