"""Training loss: cross-entropy of every codebook plus the annealed load-balancing loss.

Shape suffixes: M positions (any leading shape), K codebooks, V ids of one codebook.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from .config import ModelConfig

IGNORED = -100


def label_losses(logits_MKV: Tensor, labels_MK: Tensor) -> Tensor:
    """Cross-entropy [M, K] of every label, in float32; 0 where the label is IGNORED (-100).

    Logits and labels have the same position: shift them before.
    """
    labels_MK = labels_MK.flatten(0, -2)
    return F.cross_entropy(
        logits_MKV.flatten(0, -2).float(), labels_MK.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(labels_MK)


def codec_losses(logits_MKV: Tensor, labels_MK: Tensor) -> Tensor:
    """Mean cross-entropy [K] of each codebook over its labels that are not IGNORED (`label_losses`).

    A codebook without labels has loss 0.
    """
    counts_K = (labels_MK.flatten(0, -2) != IGNORED).sum(dim=0)
    return label_losses(logits_MKV, labels_MK).sum(dim=0) / counts_K.clamp_min(1)


def aux_loss_weight(config: ModelConfig, step: int) -> float:
    """Weight of the auxiliary loss: falls linearly over `aux_loss_decay_steps` to its minimum."""
    progress = min(step / config.aux_loss_decay_steps, 1.0)
    return config.aux_loss_weight + (config.min_aux_loss_weight - config.aux_loss_weight) * progress


def total_loss(losses_K: Tensor, aux_loss: Tensor, config: ModelConfig, step: int) -> Tensor:
    """The loss that training minimises: the sum over the codebooks plus the weighted auxiliary loss (public model)."""
    return losses_K.sum() + aux_loss_weight(config, step) * aux_loss
