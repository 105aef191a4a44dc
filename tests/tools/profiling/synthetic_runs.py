"""Runs of a profile with planted times."""

from __future__ import annotations

from typing import Any

import numpy as np


def a_run(seed: int, *, step_ms: float = 4.0, read: float = 1e10, rtf: float | None = 0.2) -> dict[str, Any]:
    """The fields of a profile's run that a comparison reads: two requests, eight repetitions."""
    random = np.random.default_rng(seed)

    def jitter() -> float:
        return float(np.exp(random.normal(0, 0.004)))

    generations = [
        {
            "task": task, "caption": task, "seed": 0, "step_ms": [step_ms * scale * jitter() for _ in range(50)],
            "prefill_ms": 10 * scale * jitter(), "ttfa_ms": 30 * scale * jitter(), "rtf": rtf,
        }
        for _ in range(8)
        for task, scale in (("speech", 1.0), ("music", 3.0))
    ]  # fmt: skip
    reads = [read * jitter() for _ in range(8)]
    return {
        "setting": {"bundle": "b", "threads": 1, "rows": 2}, "cores_of_others": 0.0, "generations": generations,
        "floor": {"reads_bytes_per_s": reads, "read_spread": 0.01},
    }  # fmt: skip
