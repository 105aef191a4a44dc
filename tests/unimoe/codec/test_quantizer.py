"""The residual quantizer: it learns clusters, and its gradient passes straight through."""

from __future__ import annotations

import torch

from unimoe.codec.quantizer import ResidualQuantizer


def test_quantizer_learns_clusters_and_revives_dead_codes() -> None:
    generator = torch.Generator().manual_seed(0)
    quantizer = ResidualQuantizer(2, 8, 4)
    centres = torch.randn(8, 4, generator=generator) * 5
    latent = (centres[torch.randint(8, (400,), generator=generator)])[None]
    latent = latent + 0.1 * torch.randn(latent.shape, generator=generator)
    quantizer.initialise(latent[0], generator)
    quantizer.weight[0, 0] = 1000.0  # a code that no input selects
    quantizer.sum_KVD[0, 0] = 0.0
    quantizer.usage_KV[0, 0] = 0.0
    for _ in range(200):
        quantizer(latent, generator)
    assert quantizer.weight.abs().max() < 100
    error = (quantizer.decode(quantizer.encode(latent)) - latent).square().mean()
    assert error < 0.02 * latent.var()


def test_straight_through_gradient_is_the_identity() -> None:
    quantizer = ResidualQuantizer(2, 8, 4)
    quantizer.weight.normal_()
    latent = torch.randn(1, 5, 4, requires_grad=True)
    quantized, _ = quantizer(latent, torch.Generator())
    quantized.sum().backward()
    assert latent.grad is not None and torch.equal(latent.grad, torch.ones_like(latent))
