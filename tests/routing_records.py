"""A routing record as a profile and `unimoe plan` write it."""

from __future__ import annotations

from typing import Any


def record(layers: int = 2, routed: int = 4, rows: int = 2) -> dict[str, Any]:
    """Two tasks: one expert runs in the first, two run in the second, which is three times as long."""
    one = [[0, 10] + [0] * (routed - 1)] * layers
    two = [[0, 0, 30] + [0] * (routed - 2)] * layers
    return {
        "rows": rows,
        "tasks": {
            "speech": {"steps": 10, "launched_histogram": one, "launch_share": [[1.0] + [0.0] * (routed - 1)] * layers},
            "music": {"steps": 30, "launched_histogram": two, "launch_share": [[1.0, 1.0] + [0.0] * (routed - 2)] * 2},
        },
    }
