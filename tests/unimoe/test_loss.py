"""Losses, their gradients and the auxiliary weight's schedule against the public model's recorded values.

B rows · T positions · M labelled positions · K codebooks · V ids of one codebook
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from unimoe.checkpoint import tensor_views
from unimoe.config import preset
from unimoe.loss import aux_loss_weight, codec_losses, total_loss
from unimoe.model import ModelOutput, UniMoE
from unimoe_runtime.checkpoint import published as public_format

VECTORS = Path(__file__).parents[1] / "vectors"
TOLERANCE: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-5}
PLACEHOLDER = 294


def positions_of(mask_BT: torch.Tensor) -> torch.Tensor:
    """Positions as in the public model: counted from a row's first token, 1 at padding."""
    return (mask_BT.long().cumsum(dim=1) - 1).masked_fill(~mask_BT, 1)


@pytest.mark.slow
def test_training_loss_and_gradients(reference_model: UniMoE) -> None:
    vectors = load_file(VECTORS / "train_loss_grads.safetensors")
    trained = copy.deepcopy(reference_model)
    mask_BT = vectors["attention_mask"].bool()

    def run(aux_weight_BT: torch.Tensor | None) -> ModelOutput:
        embedded_BTC = trained.embed(vectors["input_ids"], vectors["codec_input_ids"], PLACEHOLDER)
        return trained(embedded_BTC, positions_of(mask_BT), mask_BT, aux_weight_BT=aux_weight_BT)

    def loss_of(output: ModelOutput, aux_loss: torch.Tensor, step: int) -> torch.Tensor:
        # The public forward() shifts: the logits of one position are for the labels of the next.
        logits_BTKV = trained.logits(output.hidden_BTC)[:, :-1]
        return total_loss(codec_losses(logits_BTKV, vectors["codec_labels"][:, 1:]), aux_loss, trained.config, step)

    output = run(vectors["aux_balance_weight"])
    torch.testing.assert_close(output.aux_loss, vectors["eval.aux_balance_loss"], **TOLERANCE)
    loss = loss_of(output, output.aux_loss, step=0)
    torch.testing.assert_close(loss, vectors["eval.loss"], **TOLERANCE)
    torch.testing.assert_close(loss, vectors["train_nojitter.loss"], **TOLERANCE)

    loss.backward()
    gradients = copy.deepcopy(trained)
    for holder, parameter in zip(gradients.parameters(), trained.parameters(), strict=True):
        assert parameter.grad is not None
        holder.data.copy_(parameter.grad)
    views = tensor_views(gradients)
    compared = 0
    for name, norm in json.loads((VECTORS / "train_grad_norms.json").read_text()).items():
        canonical = public_format.canonical_name(name)
        if canonical is not None and not canonical.startswith("vision."):
            assert views[canonical].norm().item() == pytest.approx(norm or 0.0, abs=1e-4, rel=1e-5), name
            compared += 1
    assert compared == len(views)
    for name, gradient in vectors.items():
        if name.startswith("grad."):
            canonical = public_format.canonical_name(name.removeprefix("grad."))
            assert canonical is not None
            torch.testing.assert_close(views[canonical], gradient, **TOLERANCE)

    # Without balance weights the public code counts padding as tokens (see test_moe.public_aux_loss).
    with torch.no_grad():
        output = run(None)
        real = mask_BT.float().mean()
        public = [
            real * real * routing.aux_loss
            + real * (1 - real) * routing.picked_NE[mask_BT.flatten()].sum(dim=1).float().mean()
            for routing in output.routings
        ]
        aux_loss = torch.stack(public).mean()
        torch.testing.assert_close(aux_loss, vectors["eval_noauxw_step5000.aux_balance_loss"], **TOLERANCE)
        loss = loss_of(output, aux_loss, step=5000)
        torch.testing.assert_close(loss, vectors["eval_noauxw_step5000.loss"], **TOLERANCE)


def test_auxiliary_weight_follows_the_public_schedule() -> None:
    config = preset("public")
    facts = json.loads((VECTORS / "facts.json").read_text())
    for step, weight in facts["aux_weight_schedule"].items():
        assert aux_loss_weight(config, int(step)) == pytest.approx(weight, abs=1e-12)


def test_codec_losses_are_means_over_each_codebooks_labels() -> None:
    logits_MKV, labels_MK = torch.randn(6, 2, 9), torch.randint(0, 9, (6, 2))
    labels_MK[2:, 1] = -100
    losses_K = codec_losses(logits_MKV.view(2, 3, 2, 9), labels_MK.view(2, 3, 2))
    for codebook, labels in ((0, slice(None)), (1, slice(0, 2))):
        expected = torch.nn.functional.cross_entropy(logits_MKV[labels, codebook], labels_MK[labels, codebook])
        torch.testing.assert_close(losses_K[codebook], expected)
    assert codec_losses(logits_MKV, torch.full((6, 2), -100)).tolist() == [0.0, 0.0]
    config = preset("tiny", aux_loss_weight=0.5, min_aux_loss_weight=0.1, aux_loss_decay_steps=4)
    total = total_loss(losses_K, torch.tensor(2.0), config, step=2)
    torch.testing.assert_close(total, losses_K.sum() + 0.3 * 2.0)


def test_a_tiny_model_learns_to_repeat() -> None:
    torch.manual_seed(0)
    config = preset("tiny", input_jitter_noise=0.01)
    model = UniMoE(config).train()
    codes_BTK = torch.randint(0, 16, (4, 12, 2))
    ids_BT = torch.cat([torch.arange(4)[:, None], torch.full((4, 12), -1)], dim=1)
    positions_BT = torch.arange(13.0).expand(4, 13)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for step in range(60):
        output = model(model.embed(ids_BT, codes_BTK.flatten(0, 1), -1), positions_BT, torch.ones(4, 13) > 0)
        logits_BTKV = model.logits(output.hidden_BTC[:, :-1])
        losses_K = codec_losses(logits_BTKV, codes_BTK)
        loss = total_loss(losses_K, output.aux_loss, config, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(losses_K.mean().item())
    assert losses[-1] < 0.3 * losses[0]
