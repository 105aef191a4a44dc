"""The floor of a step: the bytes that it must read, over this machine's read bandwidth.

L layers · R routed experts
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.bundle.reader import Bundle, expert_name, trunk_name
from unimoe_tools.profiling.recorder import Part

# A part is far from its floor beyond this ratio if it takes at least this share of a step's time and bytes (the inputs
# of a step take time, but hardly any of it for reading).
FAR_RATIO = 2.0
FAR_SHARE = 0.05
_FAR_BYTES = 0.01


def weight_bytes(bundle: Bundle, graph: str) -> int:
    """Bytes of a graph's stored weights, including the scales of quantized ones."""
    return sum(entry.num_bytes for entry in bundle.weights(graph).entries.values())


def expert_bytes(bundle: Bundle) -> NDArray[np.float64]:
    """[layer, expert]: bytes of each routed expert's weights."""
    model = bundle.model
    return np.array([
        [weight_bytes(bundle, expert_name(layer, expert)) for expert in range(model.num_routed_experts)]
        for layer in range(model.num_layers)
    ], dtype=np.float64)  # fmt: skip


def step_bytes(
    bundle: Bundle, *, launches_a_step_LR: NDArray[np.float64], rows: int, cached: float
) -> tuple[dict[str, float], NDArray[np.float64]]:
    """Bytes that a step touches, by part, and by layer.

    They are the weights of the graphs that ran, at their stored precision, and keys and values of `cached` positions on
    average; embedding rows count as inputs.
    """
    model = bundle.model
    cache = rows * cached * 2 * model.num_kv_heads * model.head_dim * 4
    trunks_L = np.array([weight_bytes(bundle, trunk_name(layer)) + cache for layer in range(model.num_layers)])
    experts_L = np.zeros(model.num_layers)
    for layer, launches_R in enumerate(launches_a_step_LR):
        for expert in np.flatnonzero(launches_R):
            experts_L[layer] += launches_R[expert] * weight_bytes(bundle, expert_name(layer, int(expert)))
    parts = {
        Part.INPUTS.name.lower(): float(rows * model.num_codebooks * model.hidden_size * 4),
        Part.TRUNK.name.lower(): float(trunks_L.sum()),
        Part.EXPERT.name.lower(): float(experts_L.sum()),
        Part.HEAD.name.lower(): float(weight_bytes(bundle, "head")),
    }
    return parts, trunks_L + experts_L


def compare_with_floor(
    bytes_by_part: Mapping[str, float], ms_by_part: Mapping[str, float], step_ms: float, bytes_per_s: float
) -> dict[str, Any]:
    """Each part's bytes, its floor in milliseconds, the ratio of its time to the floor, and whether it is far off."""
    parts = {}
    total = sum(bytes_by_part.values())
    for name, num_bytes in bytes_by_part.items():
        floor_ms, ms = 1e3 * num_bytes / bytes_per_s, ms_by_part[name]
        ratio = ms / floor_ms if floor_ms else None
        matters = ms >= FAR_SHARE * step_ms and num_bytes >= _FAR_BYTES * total
        far = matters and ratio is not None and ratio > FAR_RATIO
        parts[name] = {"bytes": num_bytes, "floor_ms": floor_ms, "ms": ms, "ratio": ratio, "far": far}
    floor_ms = 1e3 * total / bytes_per_s
    return {
        "bytes_a_step": total,
        "read_bytes_per_s": bytes_per_s,
        "floor_ms": floor_ms,
        "ratio": step_ms / floor_ms,
        "parts": parts,
    }
