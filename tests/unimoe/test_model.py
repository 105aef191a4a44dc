"""The decoder against the public model's recorded runs: prefill, cached steps, loss, gradients, generation.

B rows · T positions · K codebooks · V ids of one codebook
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from unimoe.attention import rotary
from unimoe.checkpoint import load_model, tensor_views
from unimoe.config import SamplingConfig, preset
from unimoe.generate import Prompt, TorchLanguageModel, collect_frames, generate
from unimoe.loss import aux_loss_weight, codec_losses, training_loss
from unimoe.model import ModelOutput, UniMoE
from unimoe_runtime import public_format
from unimoe_runtime.rope import rotary as numpy_rotary

VECTORS = Path(__file__).parents[1] / "vectors"
TOLERANCE = {"atol": 1e-4, "rtol": 1e-5}
PLACEHOLDER = 294
FACTS = json.loads((VECTORS / "facts.json").read_text())


@pytest.fixture(scope="module")
def model(reference_checkpoint: Path) -> UniMoE:
    return load_model(reference_checkpoint)


def positions_of(mask_BT: torch.Tensor) -> torch.Tensor:
    """As the public model counts them: from a row's first token, 1 where padded."""
    return (mask_BT.long().cumsum(dim=1) - 1).masked_fill(~mask_BT, 1)


@pytest.mark.parametrize("kind", ["text", "voice"])
@torch.no_grad()
def test_prefill_and_ten_cached_steps(model: UniMoE, kind: str) -> None:
    vectors = load_file(VECTORS / f"lm_{kind}_prompt.safetensors")
    mask_BT = vectors["attention_mask"].bool()
    real_N = mask_BT.flatten()
    layer_outputs: list[torch.Tensor] = []
    hooks = [layer.register_forward_hook(lambda _m, _i, o: layer_outputs.append(o[0])) for layer in model.layers]

    embedded_BTC = model.embed(vectors["input_ids"], vectors.get("codec_input_ids"), PLACEHOLDER)
    torch.testing.assert_close(embedded_BTC, vectors["inputs_embeds"], atol=0, rtol=0)
    output = model(embedded_BTC, vectors["position_ids"], mask_BT)
    for hook in hooks:
        hook.remove()

    # What the public model computes at padded positions differs between its own attention back ends.
    for index in (0, 1):
        recorded = vectors[f"prefill.hidden_states.{index + 1}"]
        torch.testing.assert_close(layer_outputs[index][mask_BT], recorded[mask_BT], **TOLERANCE)
    for prefix in ("prefill", "prefill_padmask"):
        recorded = vectors[f"{prefix}.last_hidden_state"]
        torch.testing.assert_close(output.hidden_BTC[mask_BT], recorded[mask_BT], **TOLERANCE)
    torch.testing.assert_close(
        model.logits(output.hidden_BTC)[mask_BT], vectors["prefill.codec_logits"][mask_BT], **TOLERANCE
    )
    for index, routing in enumerate(output.routings):
        for name, part in zip(("key", "value"), output.caches[index], strict=True):
            recorded = vectors[f"prefill.{name}.{index}"].transpose(1, 2)[mask_BT]
            torch.testing.assert_close(part.transpose(1, 2)[mask_BT], recorded, **TOLERANCE)
        assert routing.shared_weights_NS is not None
        weights_NR = torch.cat([routing.weights_NE, routing.shared_weights_NS], dim=1)
        torch.testing.assert_close(
            routing.logits_NR[real_N], vectors[f"prefill.router_logits.{index}"][real_N], **TOLERANCE
        )
        picks_N = routing.picked_NE.sum(dim=1)
        torch.testing.assert_close(picks_N[real_N], vectors[f"prefill.dynamic_top_k.{index}"][real_N])
        for prefix in ("prefill", "prefill_padmask"):
            weights, picked = vectors[f"{prefix}.global_weight.{index}"], vectors[f"{prefix}.expert_mask.{index}"]
            torch.testing.assert_close(weights_NR[real_N], weights[real_N], **TOLERANCE)
            torch.testing.assert_close(routing.picked_NE.int()[real_N], picked[real_N, :9])
        padmask = vectors[f"prefill_padmask.expert_mask.{index}"]
        torch.testing.assert_close(routing.picked_NE.int(), padmask[:, :9])

    mask_BS = mask_BT
    for step, codes_B1K in enumerate(vectors["decode.tokens"]):
        mask_BS = torch.cat([mask_BS, mask_BS.new_ones(len(mask_BS), 1)], dim=1)
        output = model(
            model.embed_codes(codes_B1K), vectors["decode.position_ids"][step], mask_BS, caches=output.caches
        )
        torch.testing.assert_close(output.hidden_BTC, vectors["decode.last_hidden_state"][step], **TOLERANCE)
        logits = model.logits(output.hidden_BTC)
        torch.testing.assert_close(logits, vectors["decode.codec_logits"][step], **TOLERANCE)
        for index, routing in enumerate(output.routings):
            assert routing.shared_weights_NS is not None
            weights_NR = torch.cat([routing.weights_NE, routing.shared_weights_NS], dim=1)
            torch.testing.assert_close(weights_NR, vectors["decode.global_weight"][step, index], **TOLERANCE)
            torch.testing.assert_close(routing.picked_NE.int(), vectors["decode.expert_mask"][step, index, :, :9])
    for index, (key, value) in enumerate(output.caches):
        for name, part in (("key", key), ("value", value)):
            recorded = vectors[f"decode.final_{name}.{index}"].transpose(1, 2)[mask_BS]
            torch.testing.assert_close(part.transpose(1, 2)[mask_BS], recorded, **TOLERANCE)


def test_training_loss_and_gradients(model: UniMoE) -> None:
    vectors = load_file(VECTORS / "train_loss_grads.safetensors")
    trained = copy.deepcopy(model)
    mask_BT = vectors["attention_mask"].bool()

    def run(aux_weight_BT: torch.Tensor | None) -> ModelOutput:
        embedded_BTC = trained.embed(vectors["input_ids"], vectors["codec_input_ids"], PLACEHOLDER)
        return trained(embedded_BTC, positions_of(mask_BT), mask_BT, aux_weight_BT=aux_weight_BT)

    def loss_of(output: ModelOutput, aux_loss: torch.Tensor, step: int) -> torch.Tensor:
        # The public forward() shifts: the logits of one position are for the labels of the next.
        logits_BTKV = trained.logits(output.hidden_BTC)[:, :-1]
        return training_loss(logits_BTKV, vectors["codec_labels"][:, 1:], aux_loss, trained.config, step)[0]

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
        if canonical is not None:
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


@pytest.mark.parametrize("case", list(FACTS["generate"]))
def test_generation(model: UniMoE, case: str) -> None:
    facts, vectors = FACTS["generate"][case], load_file(VECTORS / f"generate_{case}.safetensors")
    mask_BT = vectors["attention_mask"].bool()
    codec_ids = vectors.get("codec_input_ids")
    prompt = Prompt(
        text_ids_BT=vectors["input_ids"].numpy(),
        mask_BT=mask_BT.numpy(),
        positions=positions_of(mask_BT).float().numpy(),
        first_position_B=mask_BT.sum(dim=1).float().numpy(),
        codec_ids_PK=None if codec_ids is None else codec_ids.numpy(),
        placeholder_id=PLACEHOLDER,
        paired=True,
    )
    parameters = facts["params"]
    sampling = SamplingConfig(
        guidance_scale=float(parameters["cfg_scale"]),
        temperature=0.0,
        top_k=parameters["cfg_filter_top_k"],
        top_p=parameters["top_p"],
        eos_factor=parameters["eos_prob_mul_factor"],
        min_steps=parameters["min_tokens"],
        max_steps=parameters["max_tokens"],
    )
    recording = _Recording(model)
    steps = list(generate(recording, prompt, model.config, sampling))
    assert len(steps) == facts["steps"]
    assert steps[-1].num_frames_U.tolist() == facts["lengths"]
    delayed_UTK = np.stack([step.codes_UK for step in steps], axis=1)
    np.testing.assert_array_equal(delayed_UTK, vectors["dec_output_generated_tokens"][:, 1:])
    for utterance, frames_TK in enumerate(collect_frames(iter(steps))):
        np.testing.assert_array_equal(frames_TK, vectors[f"reverted_codes.{utterance}"])
        length = steps[-1].num_frames_U[utterance] + max(model.config.delay_pattern)
        recorded_TK = vectors["generated_codes"][utterance, :length]
        np.testing.assert_array_equal(delayed_UTK[utterance, :length], recorded_TK)
    for index in facts["kept_logit_steps"]:
        np.testing.assert_allclose(recording.logits[index], vectors[f"raw_codec_logits.step{index}"], **TOLERANCE)


class _Recording(TorchLanguageModel):
    def __init__(self, model: UniMoE) -> None:
        super().__init__(model)
        self.logits: list[NDArray[np.float32]] = []

    def step(self, codes_BK: NDArray[np.int64], position_B: NDArray[np.float32]) -> NDArray[np.float32]:
        self.logits.append(super().step(codes_BK, position_B))
        return self.logits[-1]


def test_rotary_equals_the_runtime_and_takes_fractions_and_three_axes() -> None:
    for sections in ((), (1, 1, 2)):
        config = preset("tiny", mrope_sections=sections)
        for shape in ((2, 5), (3, 2, 5)):
            positions = torch.rand(shape) * 50
            expected = numpy_rotary(positions.numpy(), config)
            for part, recorded in zip(rotary(positions, config), expected, strict=True):
                np.testing.assert_allclose(part, recorded, atol=1e-5)
    # Each frequency turns with its own axis.
    config = preset("tiny", mrope_sections=(1, 1, 2))
    positions = torch.zeros(3, 1, 1)
    positions[1] = 1.0
    turned = rotary(positions, config)[1][0, 0, :4] != 0
    assert turned.tolist() == [False, True, False, False]


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padding_on_either_side_changes_no_token(side: str) -> None:
    torch.manual_seed(0)
    model = UniMoE(preset("tiny")).eval()
    ids_BT, positions_BT = torch.randint(0, 40, (1, 6)), torch.arange(6.0)[None]
    expected = model(model.embed(ids_BT), positions_BT)
    pad = (3, 0) if side == "left" else (0, 3)
    mask_BT = torch.nn.functional.pad(torch.ones(1, 6, dtype=torch.bool), pad)
    padded = model(
        model.embed(torch.nn.functional.pad(ids_BT, pad)), torch.nn.functional.pad(positions_BT, pad), mask_BT
    )
    torch.testing.assert_close(padded.hidden_BTC[mask_BT], expected.hidden_BTC[0], **TOLERANCE)
    torch.testing.assert_close(padded.aux_loss, expected.aux_loss, **TOLERANCE)


@torch.no_grad()
def test_log_attention_is_the_attention_that_the_output_uses() -> None:
    torch.manual_seed(0)
    model = UniMoE(preset("tiny")).eval()
    embedded_BTC, positions_BT = model.embed(torch.randint(0, 40, (2, 7))), torch.arange(7.0).expand(2, 7)
    assert not model(embedded_BTC, positions_BT).log_attention
    output = model(embedded_BTC, positions_BT, log_attention_heads={1: 2})
    log_attention_BTS = output.log_attention[1]
    torch.testing.assert_close(log_attention_BTS.exp().sum(dim=-1), torch.ones(2, 7))
    assert not log_attention_BTS.exp().triu(diagonal=1).any()
    # Only head 2's columns of o_proj see this: values weighted by the returned mass give its output.
    attention = model.layers[1].attention
    value_BSD = output.caches[1][1][:, 2 // 2]
    expected_BTD = log_attention_BTS.exp() @ value_BSD
    heads_BTX: list[torch.Tensor] = []
    hook = attention.o_proj.register_forward_pre_hook(lambda _m, inputs: heads_BTX.append(inputs[0]))
    model(embedded_BTC, positions_BT)
    hook.remove()
    torch.testing.assert_close(heads_BTX[0].unflatten(2, (4, 8))[:, :, 2], expected_BTD, **TOLERANCE)


def test_auxiliary_weight_follows_the_public_schedule() -> None:
    config = preset("public")
    for step, weight in FACTS["aux_weight_schedule"].items():
        assert aux_loss_weight(config, int(step)) == pytest.approx(weight, abs=1e-12)


def test_codec_losses_are_means_over_each_codebooks_labels() -> None:
    logits_MKV, labels_MK = torch.randn(6, 2, 9), torch.randint(0, 9, (6, 2))
    labels_MK[2:, 1] = -100
    losses_K = codec_losses(logits_MKV.view(2, 3, 2, 9), labels_MK.view(2, 3, 2))
    for codebook, labels in ((0, slice(None)), (1, slice(0, 2))):
        expected = torch.nn.functional.cross_entropy(logits_MKV[labels, codebook], labels_MK[labels, codebook])
        torch.testing.assert_close(losses_K[codebook], expected)
    assert codec_losses(logits_MKV, torch.full((6, 2), -100)).tolist() == [0.0, 0.0]


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
        loss, losses_K = training_loss(logits_BTKV, codes_BTK, output.aux_loss, config, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(losses_K.mean().item())
    assert losses[-1] < 0.3 * losses[0]
