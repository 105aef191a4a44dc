"""The auxiliary loss of the public code, from ours."""

from __future__ import annotations

import torch


def public_aux_loss(aux_loss: torch.Tensor, picked_NE: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """The public code's auxiliary loss without balance weights.

    Padding counts as tokens without a pick, whose softmax over nothing is uniform. With r the share of real tokens:
    r² · loss + r (1 - r) · mean picks.
    """
    real = mask_BT.float().mean()
    picks = picked_NE[mask_BT.flatten()].sum(dim=1).float().mean()
    return real * real * aux_loss + real * (1 - real) * picks
