"""Recording which experts run in a few generations on this machine. Routing hardly depends on the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.bundle.routing_statistics import FORMAT, FORMAT_VERSION, GUIDED_ROWS
from unimoe_tools.profiling.breakdown import Routing
from unimoe_tools.profiling.measure import Meter
from unimoe_tools.profiling.workload import ProfileRequest, Setting, make_requests

RECORDED_STEPS = 150


def record_routing(
    bundle: Path | str, requests: Sequence[ProfileRequest] | None = None, *, steps: int = RECORDED_STEPS
) -> dict[str, Any]:
    """The record for `routing_statistics.parse_activation`, of guided pairs, task by task.

    `requests` None: the bundle's own examples. Raises the error of a failed request.
    """
    asked = tuple(make_requests(open_bundle(bundle)) if requests is None else requests)
    meter = Meter(Setting(bundle=str(bundle), requests=asked, rows=GUIDED_ROWS, steps=steps, every=1))
    tasks: dict[str, Routing] = {}
    try:
        for request in asked:
            routing = meter.measure(request).routing
            tasks[request.task] = tasks[request.task].join(routing) if request.task in tasks else routing
    finally:
        meter.close()
    return describe_routing(tasks)


def describe_routing(tasks: Mapping[str, Routing]) -> dict[str, Any]:
    """The same record from already observed routing, by task."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "rows": GUIDED_ROWS,
        "tasks": {
            task: {
                "steps": routing.num_steps,
                "launched_histogram": routing.launched_histogram_L(),
                "launch_share": routing.launch_share_LR().round(4).tolist(),
            }
            for task, routing in tasks.items()
        },
    }
