"""Routing statistics: experts picked by token and layer, load, null share, and whether the domains' loads differ.

Every token except padding counts, prompts included. Any model of `unimoe.model` works. Clips are training examples
(`unimoe.training.examples.Example`).

Shape suffixes: L layers, D domains, X clips, E routed experts, then null ones, P numbers of picked experts, N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # the record needs no torch: `unimoe eval` fills it from a bundle
    from unimoe.model import UniMoE
    from unimoe.training.examples import Example

_BATCH = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class RoutingRecord:
    """Counts of picks.

    `picks_XLE`: of each clip, layer and dynamic expert. `tokens_X`: tokens of a clip. `picked_DLP`: how many tokens
    of a domain and layer picked P routed experts. `domain_X`: indices into `domains`.
    """

    domains: tuple[str, ...]
    num_routed: int
    domain_X: np.ndarray
    tokens_X: np.ndarray
    picks_XLE: np.ndarray
    picked_DLP: np.ndarray

    def load_DLE(self) -> np.ndarray:
        """Share of each routed expert in the picks of its layer's routed experts, by domain and layer."""
        picks = np.stack([self.picks_XLE[self.domain_X == d].sum(axis=0) for d in range(len(self.domains))])
        routed_DLE = picks[:, :, : self.num_routed]
        return routed_DLE / np.maximum(routed_DLE.sum(axis=2, keepdims=True), 1)

    def load_LE(self) -> np.ndarray:
        """Load of each routed expert over all clips, by layer."""
        routed_LE = self.picks_XLE.sum(axis=0)[:, : self.num_routed]
        return routed_LE / np.maximum(routed_LE.sum(axis=1, keepdims=True), 1)

    def null_share_DL(self) -> np.ndarray:
        """Share of the null experts in all picks, by domain and layer."""
        picks = np.stack([self.picks_XLE[self.domain_X == d].sum(axis=0) for d in range(len(self.domains))])
        return picks[:, :, self.num_routed :].sum(axis=2) / np.maximum(picks.sum(axis=2), 1)

    def picked_mean_DL(self) -> np.ndarray:
        """Mean number of routed experts that a token picks, by domain and layer."""
        numbers_P = np.arange(self.picked_DLP.shape[2])
        return self.picked_DLP @ numbers_P / np.maximum(self.picked_DLP.sum(axis=2), 1)

    def difference(self, *, permutations: int = 999, seed: int = 0) -> tuple[float, float]:
        """Distance of the first two domains' loads, and the probability that chance gives at least this distance.

        The distance is half the sum of absolute differences of loads (total variation), null included, averaged over
        layers: 0 means equal loads, 1 no expert in common. The probability comes from a permutation test: clips keep
        their picks and exchange their domains, because tokens of one clip are not independent.
        """
        here = self.domain_X < 2
        picks_XLE, music_X = self.picks_XLE[here].astype(np.float64), self.domain_X[here] == 1
        if not music_X.any() or music_X.all():
            return 0.0, 1.0
        rng = np.random.default_rng(seed)
        found = _distance(picks_XLE, music_X)
        as_far = sum(_distance(picks_XLE, rng.permutation(music_X)) >= found for _ in range(permutations))
        return found, (1 + as_far) / (1 + permutations)

    def summary(self) -> dict[str, Any]:
        """The judged figures, as JSON values."""
        picks_LE = self.picks_XLE.sum(axis=0)
        total_P = self.picked_DLP.sum(axis=(0, 1))
        numbers_P = np.arange(len(total_P))
        mean = float(total_P @ numbers_P / total_P.sum())
        distance, chance = self.difference()
        return {
            "experts_picked": mean,
            "experts_picked_deviation": float(np.sqrt(total_P @ (numbers_P - mean) ** 2 / total_P.sum())),
            "experts_picked_by_domain": {
                name: float(row_L.mean()) for name, row_L in zip(self.domains, self.picked_mean_DL(), strict=True)
            },
            "null_share": float(picks_LE[:, self.num_routed :].sum() / picks_LE.sum()),
            "load_smallest": float(self.load_LE().min()),
            "load_largest": float(self.load_LE().max()),
            "domain_distance": distance,
            "domain_distance_by_chance": chance,
        }


def _distance(picks_XLE: np.ndarray, chosen_X: np.ndarray) -> float:
    loads = []
    for part_X in (chosen_X, ~chosen_X):
        picks_LE = np.tensordot(part_X.astype(np.float64), picks_XLE, axes=1)
        loads.append(picks_LE / np.maximum(picks_LE.sum(axis=1, keepdims=True), 1))
    return float(0.5 * np.abs(loads[0] - loads[1]).sum(axis=1).mean())


def routing_of(model: UniMoE, examples: Sequence[Example]) -> RoutingRecord:
    """Run clips through a Mixture of Experts without noise and count its picks. Raises ValueError for a dense model."""
    import torch

    from unimoe.training.batches import PLACEHOLDER, collate

    config = model.config
    if not config.num_router_rows:
        raise ValueError("a dense model has no routing")
    domains = tuple(sorted({example.domain for example in examples}, reverse=True))
    device = model.final_norm.weight.device
    num_layers, num_routed = config.num_layers, config.num_routed_experts
    picks_XLE = np.zeros((len(examples), num_layers, config.num_dynamic_experts), dtype=np.int64)
    picked_DLP = np.zeros((len(domains), num_layers, num_routed + 1), dtype=np.int64)
    domain_X = np.array([domains.index(example.domain) for example in examples])
    tokens_X = np.array([example.length for example in examples])
    order = np.argsort(tokens_X, kind="stable")
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            rng = np.random.default_rng(0)
            batch = collate([examples[at] for at in chosen], config, token_noise=0.0, text_drop=0.0, rng=rng).to(device)
            embedded_BTC = model.embed(batch.ids_BT, batch.inputs_MK, PLACEHOLDER)
            output = model(embedded_BTC, batch.positions_BT, batch.mask_BT)
            mask_BT = batch.mask_BT.cpu().numpy()
            for layer, routing in enumerate(output.routings):
                picked_BTE = routing.picked_NE.view(*batch.mask_BT.shape, -1).cpu().numpy()
                picks_XLE[chosen, layer] = (picked_BTE & mask_BT[:, :, None]).sum(axis=1)
                numbers_BT = picked_BTE[:, :, :num_routed].sum(axis=2)
                for row, at in enumerate(chosen):
                    counted_P = np.bincount(numbers_BT[row][mask_BT[row]], minlength=num_routed + 1)
                    picked_DLP[domain_X[at], layer] += counted_P
    model.train(was_training)
    return RoutingRecord(
        domains=domains, num_routed=num_routed, domain_X=domain_X, tokens_X=tokens_X, picks_XLE=picks_XLE,
        picked_DLP=picked_DLP,
    )  # fmt: skip
