"""The adversarial finish of a codec: trains its decoder against discriminators, without changing its tokens.

It follows spectral training. A converged decoder learns here what spectra leave open: phases and texture.

Shapes: B rows, L samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from unimoe.codec.common import TrainedCodec
from unimoe.codec.discriminators import Discriminators, discriminator_loss, generator_losses
from unimoe.codec.settings import AdversarialTraining
from unimoe.codec.trainer import CodecTrainer
from unimoe.data.corpus import Corpus
from unimoe.world import World


class AdversarialTrainer(CodecTrainer):
    """Trains the decoder of `codec` together with the discriminators. A save holds both."""

    training: AdversarialTraining

    def __init__(
        self,
        codec: TrainedCodec[Any],
        training: AdversarialTraining,
        corpus: Corpus,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(codec.config, training, corpus, codec, World(device=device or torch.device("cpu")))
        self.title = "codec against discriminators"
        self.discriminators = Discriminators(training.period_channels, training.spectral_channels).to(self.device)
        self.judging = torch.optim.AdamW(
            self.discriminators.parameters(), lr=training.discriminator_learning_rate, betas=(0.8, 0.99)
        )

    def train_step(self) -> dict[str, float]:
        """One step of the discriminators, then one of the decoder. Returns the losses."""
        training = self.training
        rng = np.random.default_rng((training.seed, self.step))
        batch = self.segments.batch(rng).to(self.device)
        made_BL, losses = self.reconstruct(batch, rng)
        real_BL = self.inner(batch.real_BL)
        judged = discriminator_loss(self.discriminators(real_BL), self.discriminators(made_BL.detach()))
        self.judging.zero_grad(set_to_none=True)
        judged.backward()
        torch.nn.utils.clip_grad_norm_(self.discriminators.parameters(), training.clip_norm)
        self.judging.step()

        loss = training.reconstruction_weight * self.weighted(losses)
        if self.step >= training.adversarial_from_step:
            self.discriminators.requires_grad_(False)
            with torch.no_grad():
                of_real = self.discriminators(real_BL)
            losses["score"], losses["features"] = generator_losses(of_real, self.discriminators(made_BL))
            self.discriminators.requires_grad_(True)
            loss = loss + losses["score"] + training.feature_weight * losses["features"]
        self.update(loss)
        self.step += 1
        return {name: value.item() for name, value in losses.items()} | {"judged": judged.item()}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "discriminators": self.discriminators.state_dict(),
            "judging": self.judging.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.discriminators.load_state_dict(state["discriminators"])
        self.judging.load_state_dict(state["judging"])
