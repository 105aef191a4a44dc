"""Which experts to keep, and whether to prefetch: loads per step by eviction policy, waits with and without prefetch.

python -m benchmarks.expert_policies BUNDLE [--steps N] [--threads N] [--markdown FILE]

The first table replays the picks of the bundle's standard requests, with room for shares of a step's p95, and counts
the loads that decode steps wait for. The second decodes with room for the p95, with and without prefetch, at normal
speed and with a simulated slow disk: each load sleeps first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.expert_residency import decode
from benchmarks.residency_tables import print_tables
from unimoe_runtime.backends.onnxruntime.backend import OnnxRuntimeBackend
from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.bundle.routing_statistics import bundled_activation
from unimoe_runtime.expert_cache import cache as residency
from unimoe_runtime.expert_cache.cache import Expert, ExpertCache
from unimoe_runtime.model.generation import generate
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_tools.parity.sample_requests import standard_requests

_SHARES = (1.5, 1.0, 0.75, 0.5)
_DISKS_MS = (0.0, 1.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class LayerPass:
    """One layer's picks in one pass; `shares_R`: the share of its tokens that picked each expert."""

    layer: int
    decoding: bool
    picked: list[int]
    shares_R: list[float]


class _Nothing:
    def close(self) -> None:
        """Nothing to close: no expert was loaded."""


def picks(backend: Backend, bundle: Bundle, steps: int) -> list[LayerPass]:
    """The layers' passes of the standard requests, in order."""
    passes: list[LayerPass] = []

    def observe(layer: int, logits_NR: np.ndarray, weights_NE: np.ndarray) -> None:
        picked_NR = weights_NE[:, : bundle.model.num_routed_experts] > 0
        decoding = len(picked_NR) <= 2
        shares_R = picked_NR.any(axis=0) if decoding else picked_NR.mean(axis=0)
        picked = np.flatnonzero(picked_NR.any(axis=0)).tolist()
        passes.append(
            LayerPass(layer=layer, decoding=decoding, picked=picked, shares_R=shares_R.astype(float).tolist())
        )

    for request in standard_requests(bundle):
        model = BundleModel(backend, observer=observe)
        for step in generate(model, request.prompt, bundle.model, request.sampling, seed=0):
            if step.index == steps:
                break
    return passes


def uses(passes: list[LayerPass]) -> Iterator[tuple[bool, Expert]]:
    for one in passes:
        for expert in one.picked:
            yield one.decoding, (one.layer, expert)


def loads_of_ours(passes: list[LayerPass], bundle: Bundle, room: int) -> int:
    """Loads that decode steps wait for under the runtime's own policy."""
    model = bundle.model
    experts = [(layer, expert) for layer in range(model.num_layers) for expert in range(model.num_routed_experts)]
    activation = bundled_activation(bundle)
    usual = {} if activation is None else {expert: float(activation.share_LR[expert]) for expert in experts}
    memory: ExpertCache[_Nothing] = ExpertCache(
        lambda expert: _Nothing(), dict.fromkeys(experts, 1), room, usual, ahead=False
    )
    loads = 0
    for one in passes:
        memory.note(one.layer, one.shares_R)
        before = memory.statistics().misses
        for expert in one.picked:
            memory.acquire((one.layer, expert))
            memory.release((one.layer, expert))
        loads += one.decoding * (memory.statistics().misses - before)
    memory.close()
    return loads


def loads_by(passes: list[LayerPass], room: int, worth: Callable[[Expert, int], float]) -> int:
    """Loads of decode steps where the expert of least worth is evicted. Each use calls `worth(expert, time)`."""
    kept: dict[Expert, float] = {}
    loads = 0
    for moment, (decoding, expert) in enumerate(uses(passes)):
        if expert not in kept:
            loads += decoding
            if len(kept) >= room:
                del kept[min(kept, key=lambda other: kept[other])]
        kept[expert] = worth(expert, moment)
    return loads


def policies(passes: list[LayerPass], bundle: Bundle, room: int) -> dict[str, int]:
    """Loads of decode steps under each policy."""
    counts: dict[Expert, int] = {}
    following: dict[Expert, list[int]] = {}
    for moment, (_, expert) in enumerate(uses(passes)):
        following.setdefault(expert, []).append(moment)

    def counted(expert: Expert, moment: int) -> float:
        counts[expert] = counts.get(expert, 0) + 1
        return counts[expert]

    def known(expert: Expert, moment: int) -> float:
        return -min((later for later in following[expert] if later > moment), default=1 << 60)

    return {
        "as the runtime does": loads_of_ours(passes, bundle, room),
        "used last": loads_by(passes, room, lambda expert, moment: moment),
        "used most": loads_by(passes, room, counted),
        "the future known": loads_by(passes, room, known),
    }


def policy_table(path: Path, steps: int, threads: int) -> tuple[str, list[str], list[list[str]]]:
    bundle = open_bundle(path)
    backend = OnnxRuntimeBackend(bundle, threads=threads)
    passes = picks(backend, bundle, steps)
    backend.close()
    layers = bundle.model.num_layers
    decoding = [one for one in passes if one.decoding]
    step_uses = [sum(len(one.picked) for one in decoding[i : i + layers]) for i in range(0, len(decoding), layers)]
    p95 = int(np.percentile(step_uses, 95))
    rows = []
    for share in _SHARES:
        found = policies(passes, bundle, int(share * p95))
        rows.append(
            [f"{share:g}", str(int(share * p95)), *(f"{loads / len(step_uses):.2f}" for loads in found.values())]
        )
    title = f"{path.name}: loads a decode step ({np.mean(step_uses):.1f} uses, {p95} at p95)"
    return title, ["of p95", "experts", *found], rows


def ahead_figures(bundle: Bundle, threads: int | None, steps: int, *, disk_ms: float, ahead: bool) -> dict[str, Any]:
    """Decode with room for the p95 of a step. `disk_ms`: the additional time of each load."""
    probe = OnnxRuntimeBackend(bundle, threads=threads, memory_budget_bytes=0)
    decode(probe, bundle, steps)
    measured = probe.residency()
    assert measured is not None
    probe.close()
    backend = OnnxRuntimeBackend(bundle, threads=threads, memory_budget_bytes=measured.step_bytes_p95)
    memory = backend.experts
    assert memory is not None
    load, note_predictions = memory._load_expert, memory.note_predictions
    picked_of_asked = 0

    def slow(expert: Expert) -> Any:
        time.sleep(disk_ms / 1e3)
        return load(expert)

    def counted(predicted: Collection[int], picked: Collection[int]) -> None:
        nonlocal picked_of_asked
        picked_of_asked += len(picked)
        note_predictions(predicted, picked)

    memory._load_expert, memory.note_predictions, memory.prefetches = slow, counted, ahead  # type: ignore[method-assign]
    _, _, wall_s = decode(backend, bundle, steps)
    found = backend.residency()
    assert found is not None
    backend.close()
    return {
        "step_ms": 1e3 * float(np.mean(wall_s)),
        "stall_ms": 1e3 * found.stall_s / len(wall_s),
        "loaded_ahead": found.loaded_ahead,
        "used": found.prefetch_accuracy,
        "came_true": found.predicted_hits / found.predicted if found.predicted else None,
        "predicted_hits": found.predicted_hits / picked_of_asked if picked_of_asked else None,
    }


def ahead_table(path: Path, steps: int, threads: int) -> tuple[str, list[str], list[list[str]]]:
    """Prefetch always and never, without the runtime's own rule (only while waits are long)."""
    bundle = open_bundle(path)
    rule, residency.PREFETCH_MIN_STALL_S = residency.PREFETCH_MIN_STALL_S, 0.0
    rows = []
    try:
        for disk_ms in _DISKS_MS:
            for ahead in (False, True):
                found = ahead_figures(bundle, threads, steps, disk_ms=disk_ms, ahead=ahead)
                shares = [found["used"] if ahead else None, found["came_true"], found["predicted_hits"]]
                rows.append(
                    [f"{disk_ms:g}", "yes" if ahead else "no", f"{found['step_ms']:.2f}", f"{found['stall_ms']:.2f}",
                     str(found["loaded_ahead"]), *("" if share is None else f"{100 * share:.0f} %" for share in shares)]
                )  # fmt: skip
    finally:
        residency.PREFETCH_MIN_STALL_S = rule
    columns = [
        "load slower by ms", "looks ahead", "step ms", "waits, ms a step", "loaded ahead", "of these used",
        "of the predicted came", "of the picks predicted",
    ]  # fmt: skip
    return f"{path.name}: looking ahead, room for the p95 of a step", columns, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=120, help="decode steps of a request, at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--markdown", type=Path, help="write the tables there as Markdown")
    arguments = parser.parse_args()
    found = []
    for path in arguments.bundles:
        path = path.absolute()
        found.append(policy_table(path, arguments.steps, arguments.threads))
        found.append(ahead_table(path, arguments.steps, arguments.threads))
    lines = print_tables(Console(width=170), found)
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
