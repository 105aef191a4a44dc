"""Attention as plain products is PyTorch's attention."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from unimoe.attention import causal_attention


def test_plain_products_equal_pytorchs_attention() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 37, 16, requires_grad=True) for heads in (4, 2, 2))
    found = []
    for result in (
        causal_attention(query, key, value),
        F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True),
    ):
        gradients = torch.autograd.grad(result.square().sum(), (query, key, value))
        found.append((result, *gradients))
    for own, pytorchs in zip(*found, strict=True):
        torch.testing.assert_close(own, pytorchs, atol=1e-4, rtol=1e-4)
