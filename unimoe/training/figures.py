"""Sums for the figures of a run: losses by domain, and routing. The sums of parts can be added.

Shape suffixes: B rows, T positions, M audio positions, K codebooks, N tokens, L layers, E routed and null experts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unimoe.config import DOMAINS
from unimoe.loss import IGNORED
from unimoe.training.batches import Batch
from unimoe.training.objective import Losses
from unimoe_runtime.config import ModelConfig


class Figures:
    """Collects parts of one or more batches. `sums` is one flat tensor, so that processes can add theirs."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self._layers = config.num_layers if config.num_router_rows else 0
        self._num_codebooks = config.num_codebooks
        size = 3 + 2 * len(DOMAINS) * self._num_codebooks + 1 + self._layers * config.num_dynamic_experts
        self.sums = torch.zeros(size, dtype=torch.float64)

    @torch.no_grad()
    def add(self, losses: Losses, batch: Batch) -> None:
        known_MK = (batch.labels_MK != IGNORED).double()
        parts = [torch.stack([losses.losses_K.mean(), losses.guide, losses.aux_loss]).double()]
        for is_music in (False, True):
            here_M = batch.is_music_M == is_music
            parts += [losses.loss_MK[here_M].double().sum(dim=0), known_MK[here_M].sum(dim=0)]
        real_N = batch.mask_BT.flatten()
        parts.append(real_N.sum().double()[None])
        parts += [picked_NE[real_N].sum(dim=0).double() for picked_NE in losses.picked_NE]
        self.sums += torch.cat(parts).to(self.sums.device)

    def result(self) -> dict[str, float]:
        """Losses of one batch (`loss`, `guide`, `aux_loss`), mean losses of the domains that occurred, and routing.

        `experts_picked`: routed experts for each token and layer. `null_share`: share of all picks. `load_smallest` and
        `load_largest`: a routed expert's share of the picks of its layer's routed experts.
        """
        loss, guide, aux_loss = self.sums[:3].tolist()
        found = {"loss": loss, "guide": guide, "aux_loss": aux_loss}
        end = 3 + 2 * len(DOMAINS) * self._num_codebooks
        for name, (sum_K, count_K) in zip(
            DOMAINS, self.sums[3:end].view(len(DOMAINS), 2, self._num_codebooks), strict=True
        ):
            if bool(count_K.any()):
                found[f"loss_{name}"] = float((sum_K / count_K.clamp_min(1)).mean())
        if self._layers:
            picks_LE = self.sums[end + 1 :].view(self._layers, -1)
            found |= routing_figures(picks_LE, float(self.sums[end]), self.config)
        return found


def routing_figures(picks_LE: Tensor, num_tokens: float, config: ModelConfig) -> dict[str, float]:
    """The routing figures of `Figures.result`, from the picks of each layer and expert over `num_tokens` tokens."""
    routed_LE = picks_LE[:, : config.num_routed_experts]
    load_LE = routed_LE / routed_LE.sum(dim=1, keepdim=True).clamp_min(1)
    found = {
        "experts_picked": float(routed_LE.sum()) / max(num_tokens * len(picks_LE), 1),
        "null_share": 1 - float(routed_LE.sum() / picks_LE.sum().clamp_min(1)),
    }
    if config.num_routed_experts:
        found |= {"load_smallest": float(load_LE.min()), "load_largest": float(load_LE.max())}
    return found
