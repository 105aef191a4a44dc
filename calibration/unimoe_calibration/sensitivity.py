"""The loss from quantizing one graph: the model's answers with only this graph in another number format.

L layers · E dynamic experts
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.bundle.reader import language_model_graphs
from unimoe_runtime.config import SamplingConfig
from unimoe_tools.parity.teacher_forced import Divergence, ForcedItem, TeacherForcedOutput, diverge, read_forced

from .data import Sample
from .gathering import Progress
from .mixing import MixedBackend


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """One graph in one scheme, all others float. `router_flips`: (token, layer, expert) decisions that changed."""

    graph: str
    scheme: str
    divergence: Divergence
    router_flips: int

    @property
    def loss(self) -> float:
        """The mean Kullback-Leibler divergence of the distributions that codes are drawn from, in nats."""
        return self.divergence.kl_nats

    def record(self) -> dict[str, Any]:
        return {"graph": self.graph, "scheme": self.scheme, "flips": self.router_flips, **asdict(self.divergence)}


class Trial:
    """A mixed backend, the items of its trials, and its base's answers to them."""

    def __init__(self, backend: MixedBackend, samples: Sequence[Sample]) -> None:
        self.backend = backend
        sampling = backend.bundle.sampling
        self._items = [
            ForcedItem(
                prompt=sample.prompt,
                num_rows=sample.num_rows,
                sampling=sampling.get(sample.domain, SamplingConfig()),
            )
            for sample in samples
        ]
        self.reference = self._passes({})

    def diverge(self, choice: Mapping[str, str]) -> tuple[Divergence, int]:
        """The divergence of a choice of schemes from the base, and the number of routing decisions that it changes."""
        passes = self._passes(choice)
        flips = sum(
            int((ours.picked_LNE != theirs.picked_LNE).sum())
            for ours, theirs in zip(self.reference, passes, strict=True)
        )
        return diverge(self.reference, passes), flips

    def loss(self, choice: Mapping[str, str]) -> float:
        """As `Sensitivity.loss`."""
        return self.diverge(choice)[0].kl_nats if choice else 0.0

    def launched_LE(self) -> NDArray[np.float64]:
        """Share of decode steps in which each expert runs, over all items."""
        rows = np.array([item.num_rows for item in self._items], dtype=np.float64)
        shares = np.stack([each.launched_LE() for each in self.reference])
        return np.asarray(np.tensordot(rows / rows.sum(), shares, axes=1))

    def _passes(self, choice: Mapping[str, str]) -> list[TeacherForcedOutput]:
        self.backend.choice = choice
        try:
            return [read_forced(self.backend, item) for item in self._items]
        finally:
            self.backend.choice = {}


def measure(trial: Trial, schemes: Sequence[str], progress: Progress | None = None) -> list[Sensitivity]:
    """The sensitivity of every graph of the language model in each scheme, all other graphs from the base."""
    graphs = list(language_model_graphs(trial.backend.bundle.model))
    found = []
    for index, graph in enumerate(graphs):
        if progress is not None:
            progress(f"sensitivity of {graph}", index, len(graphs))
        for scheme in schemes:
            divergence, flips = trial.diverge({graph: scheme})
            found.append(Sensitivity(graph=graph, scheme=scheme, divergence=divergence, router_flips=flips))
    return found
