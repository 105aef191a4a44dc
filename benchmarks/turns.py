"""Steps of several peers in turns over one model, and the table of their medians."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from unimoe_tools.profiling.machine import settle

from .markdown import table
from .rounds import Peer


def measure(peers: dict[str, Peer], picked_counts: list[int], rounds: int) -> dict[int, dict[str, float]]:
    """Median milliseconds of a step by number of picked experts and peer."""
    random = np.random.default_rng(0)
    times: dict[int, dict[str, list[float]]] = {picked: defaultdict(list) for picked in picked_counts}
    for _ in range(rounds):
        for picked, by_peer in times.items():
            for name in random.permutation(list(peers)):
                peer = peers[name]
                peer.prepare(4)
                settle()
                peer.step(picked, random)
                by_peer[name] += [peer.step(picked, random)[0] for _ in range(3)]
    return {
        picked: {name: 1e3 * float(np.median(by_peer[name])) for name in peers} for picked, by_peer in times.items()
    }


def markdown(hidden: int, medians: dict[int, dict[str, float]]) -> str:
    """The table as Markdown; the first peer is ours."""
    names = list(medians[next(iter(medians))])
    ours = names[0]
    columns = ["picked", *names, *(f"{name} / {ours}" for name in names[1:])]
    rows = [
        [
            str(picked),
            *(f"{by_peer[name]:.2f}" for name in names),
            *(f"{by_peer[name] / by_peer[ours]:.2f}" for name in names[1:]),
        ]
        for picked, by_peer in medians.items()
    ]
    return "\n".join([f"**hidden {hidden}, ms a step of a guided pair**", "", *table(columns, rows)]) + "\n"
