"""The model with its loss as one module, so that a wrapper (DDP, FSDP) sees all of the work in `forward`.

Shape suffixes: B rows, T positions, M audio positions, K codebooks, N tokens, E routed and null experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unimoe.loss import IGNORED, label_losses, total_loss
from unimoe.model import UniMoE
from unimoe.training.batches import PLACEHOLDER, Batch
from unimoe.training.settings import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Counts over a step's whole batch. Each part divides its sums by them: the parts add up to the batch's mean."""

    labels_K: Tensor
    num_guided: int
    num_parts: int

    @classmethod
    def of(cls, batch: Batch, num_parts: int = 1) -> Totals:
        labels_K = (batch.labels_MK != IGNORED).sum(dim=0)
        return cls(labels_K=labels_K, num_guided=len(batch.guide[0]), num_parts=num_parts)


class Losses(NamedTuple):
    """A part's share of the batch's losses (`total` is minimised), and the values behind the figures.

    `loss_MK`: loss of every label, 0 where there is none. `picked_NE`: one for each MoE layer, padding included.
    """

    total: Tensor
    losses_K: Tensor
    guide: Tensor
    aux_loss: Tensor
    loss_MK: Tensor
    picked_NE: tuple[Tensor, ...]


class Objective(nn.Module):
    """Forward pass and loss. On a GPU, and where the settings say so on a CPU, the forward pass is in bfloat16 by
    autocast, with router and losses in float32."""

    def __init__(self, model: UniMoE, training: TrainingConfig) -> None:
        super().__init__()
        self.model = model
        self.training_config = training

    def forward(self, batch: Batch, totals: Totals, step: int) -> Losses:
        settings = self.training_config
        config = self.model.config
        device = batch.ids_BT.device.type
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda" or settings.bfloat16):
            embedded_BTC = self.model.embed(batch.ids_BT, batch.inputs_MK, PLACEHOLDER)
            heads = dict.fromkeys(settings.guide_layers, 0) if settings.guide_weight and self.training else None
            output = self.model(embedded_BTC, batch.positions_BT, batch.mask_BT, log_attention_heads=heads)
            logits_MKV = self.model.logits(output.hidden_BTC[batch.audio_BT])
        aux_loss = output.aux_loss / totals.num_parts
        loss_MK = label_losses(logits_MKV, batch.labels_MK)
        losses_K = loss_MK.sum(dim=0) / totals.labels_K.to(loss_MK.device).clamp_min(1)
        loss = total_loss(losses_K, aux_loss, config, step if settings.anneal_aux else 0)
        rows, queries, keys = batch.guide
        guide = loss.new_zeros(())
        if output.log_attention and totals.num_guided:
            mass = torch.stack([scores_BTS[rows, queries, keys] for scores_BTS in output.log_attention.values()])
            guide = -mass.float().sum() / (len(mass) * totals.num_guided)
        return Losses(
            total=loss + settings.guide_weight * guide,
            losses_K=losses_K,
            guide=guide,
            aux_loss=aux_loss,
            loss_MK=loss_MK.detach(),
            picked_NE=tuple(routing.picked_NE for routing in output.routings),
        )
