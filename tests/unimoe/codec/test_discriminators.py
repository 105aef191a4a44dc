"""Discriminators: scores and features of each, and falling losses."""

from __future__ import annotations

import pytest
import torch

from unimoe.codec.discriminators import PERIODS, RESOLUTIONS, Discriminators, discriminator_loss, generator_losses


def test_each_gives_scores_and_features() -> None:
    torch.manual_seed(0)
    found = Discriminators((4, 8), 4)(torch.randn(2, 2400))
    assert len(found) == len(PERIODS) + len(RESOLUTIONS)
    for score, features in found:
        assert len(score) == 2 and len(features) >= 2


def test_losses_are_least_where_both_sides_have_what_they_want() -> None:
    def scores(value: float) -> list[tuple[torch.Tensor, list[torch.Tensor]]]:
        return [(torch.full((2, 3), value), [torch.ones(2, 3)])]

    assert discriminator_loss(scores(1.0), scores(-1.0)) == 0
    assert discriminator_loss(scores(-1.0), scores(1.0)) == 4
    score, features = generator_losses(scores(1.0), scores(1.0))
    assert score == 0 and features == 0


@pytest.mark.slow
def test_they_learn_to_tell_noise_from_a_tone() -> None:
    torch.manual_seed(0)
    discriminators = Discriminators((4, 8), 4)
    optimizer = torch.optim.AdamW(discriminators.parameters(), lr=3e-3)
    tone = torch.sin(torch.arange(2400) * 0.1).expand(2, -1) * 0.3
    losses = []
    for _ in range(100):
        loss = discriminator_loss(discriminators(tone), discriminators(0.1 * torch.randn(2, 2400)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
