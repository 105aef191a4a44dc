"""Grouped-query attention with rotary positions (RoPE, M-RoPE) and a key/value cache.

Shape suffixes: B rows, T query positions, S key positions, C hidden, H heads, G key/value heads, D head dim,
F = D / 2 rotation frequencies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import ModelConfig

LayerCache = tuple[Tensor, Tensor]


def rotary(positions: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """cos and sin [B, T, D] of positions [B, T], or [3, B, T] (time, height, width) with M-RoPE. May be fractional.

    Frequencies theta^(-2i/D), halves duplicated (rotate-half convention). With M-RoPE the first `mrope_sections[0]`
    frequencies use the time, the next the height, and the rest the width (Qwen2-VL).
    """
    steps_F = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=positions.device)
    frequency_F = 1.0 / config.rope_theta ** (steps_F / config.head_dim)
    angles = positions.float().unsqueeze(-1) * frequency_F
    if positions.ndim == 3 and config.mrope_sections:
        parts = angles.split(config.mrope_sections, dim=-1)
        angles = torch.cat([part[axis] for axis, part in enumerate(parts)], dim=-1)
    elif positions.ndim == 3:
        angles = angles[0]
    angles_BTD = torch.cat([angles, angles], dim=-1)
    return angles_BTD.cos(), angles_BTD.sin()


def rotate(x_BHTD: Tensor, cos_BTD: Tensor, sin_BTD: Tensor) -> Tensor:
    """Rotate each pair (x_i, x_{i + D/2}) by its angle."""
    left, right = x_BHTD.chunk(2, dim=-1)
    half_turned = torch.cat([-right, left], dim=-1)
    return (x_BHTD * cos_BTD.unsqueeze(1) + half_turned * sin_BTD.unsqueeze(1)).to(x_BHTD.dtype)


def causal_attention(query_BHTD: Tensor, key_BGTD: Tensor, value_BGTD: Tensor) -> Tensor:
    """Causal attention as plain products, [B, H, T, D].

    For training in bfloat16 on a CPU: there the backward pass of PyTorch's fused attention takes three times as long
    for clips of a few hundred positions.
    """
    batch, num_heads, length, size = query_BHTD.shape
    group = num_heads // key_BGTD.shape[1]
    # The heads of a group are further queries of the same keys.
    query = (query_BHTD * size**-0.5).reshape(-1, group * length, size)
    key, value = (x_BGTD.reshape(-1, length, size) for x_BGTD in (key_BGTD, value_BGTD))
    future_TT = torch.full((length, length), -torch.inf, dtype=query.dtype, device=query.device).triu(1)
    scores = (query @ key.transpose(1, 2)).add_(future_TT.repeat(group, 1))
    return (scores.softmax(dim=-1).to(value.dtype) @ value).view(batch, num_heads, length, size)


class Attention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        hidden, bias = config.hidden_size, config.qkv_bias
        self.q_proj = nn.Linear(hidden, config.num_heads * config.head_dim, bias=bias)
        self.k_proj = nn.Linear(hidden, config.num_kv_heads * config.head_dim, bias=bias)
        self.v_proj = nn.Linear(hidden, config.num_kv_heads * config.head_dim, bias=bias)
        self.o_proj = nn.Linear(config.num_heads * config.head_dim, hidden, bias=False)

    def forward(
        self,
        hidden_BTC: Tensor,
        cos_BTD: Tensor,
        sin_BTD: Tensor,
        mask_B1TS: Tensor | None = None,
        past: LayerCache | None = None,
        log_mass_head: int | None = None,
    ) -> tuple[Tensor, LayerCache, Tensor | None]:
        """Output [B, T, C], keys and values [B, G, S, D] after those of the past, and one head's log attention.

        `mask_B1TS` is True where a query may attend; None means causal attention, without a past. `log_mass_head`
        requests that head's log attention probabilities [B, T, S] for an attention guide; without it, the third result
        is None.
        """
        query_BHTD = rotate(self._heads(self.q_proj(hidden_BTC)), cos_BTD, sin_BTD)
        key_BGSD = rotate(self._heads(self.k_proj(hidden_BTC)), cos_BTD, sin_BTD)
        value_BGSD = self._heads(self.v_proj(hidden_BTC))
        if past is not None:
            key_BGSD = torch.cat([past[0], key_BGSD], dim=2)
            value_BGSD = torch.cat([past[1], value_BGSD], dim=2)
        if mask_B1TS is None and query_BHTD.dtype == torch.bfloat16 and query_BHTD.device.type == "cpu":
            out_BHTD = causal_attention(query_BHTD, key_BGSD, value_BGSD)
        else:
            out_BHTD = F.scaled_dot_product_attention(
                query_BHTD, key_BGSD, value_BGSD, attn_mask=mask_B1TS, is_causal=mask_B1TS is None, enable_gqa=True
            )
        log_mass_BTS = None
        if log_mass_head is not None:
            log_mass_BTS = self._log_mass(query_BHTD, key_BGSD, mask_B1TS, log_mass_head)
        return self.o_proj(out_BHTD.transpose(1, 2).flatten(2)), (key_BGSD, value_BGSD), log_mass_BTS

    def _heads(self, x_BTX: Tensor) -> Tensor:
        return x_BTX.unflatten(2, (-1, self.config.head_dim)).transpose(1, 2)

    def _log_mass(self, query_BHTD: Tensor, key_BGSD: Tensor, mask_B1TS: Tensor | None, head: int) -> Tensor:
        key_BSD = key_BGSD[:, head // (self.config.num_heads // self.config.num_kv_heads)]
        scores_BTS = query_BHTD[:, head] @ key_BSD.transpose(1, 2) * self.config.head_dim**-0.5
        if mask_B1TS is not None:
            allowed = mask_B1TS[:, 0]
        else:
            allowed = torch.ones(scores_BTS.shape[1:], dtype=torch.bool, device=scores_BTS.device).tril()
        return scores_BTS.masked_fill(~allowed, -torch.inf).log_softmax(dim=-1)
