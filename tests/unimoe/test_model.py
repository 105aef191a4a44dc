"""The decoder against the public model's recorded runs (prefill, cached steps), its positions and its padding.

B rows · T positions · K codebooks · V ids of one codebook
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from unimoe.attention import Attention, rotary
from unimoe.config import preset
from unimoe.model import UniMoE
from unimoe_runtime.model.rope import rotary as numpy_rotary

VECTORS = Path(__file__).parents[1] / "vectors"
TOLERANCE: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-5}
PLACEHOLDER = 294


@pytest.mark.parametrize("kind", ["text", "voice"])
@torch.no_grad()
def test_prefill_and_ten_cached_steps(reference_model: UniMoE, kind: str) -> None:
    model = reference_model
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

    # At padded positions the public model's results differ between its own attention implementations.
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
            recorded = vectors["decode.router_logits"][step, index]
            torch.testing.assert_close(routing.logits_NR, recorded, **TOLERANCE)
            torch.testing.assert_close(weights_NR, vectors["decode.global_weight"][step, index], **TOLERANCE)
            picks_N = routing.picked_NE.sum(dim=1)
            torch.testing.assert_close(picks_N, vectors["decode.dynamic_top_k"][step, index])
            torch.testing.assert_close(routing.picked_NE.int(), vectors["decode.expert_mask"][step, index, :, :9])
    for index, (key, value) in enumerate(output.caches):
        for name, part in (("key", key), ("value", value)):
            recorded = vectors[f"decode.final_{name}.{index}"].transpose(1, 2)[mask_BS]
            torch.testing.assert_close(part.transpose(1, 2)[mask_BS], recorded, **TOLERANCE)


def test_rotary_equals_the_runtime_and_takes_fractions_and_three_axes() -> None:
    for sections in ((), (1, 1, 2)):
        config = preset("tiny", mrope_sections=sections)
        for shape in ((2, 5), (3, 2, 5)):
            positions = torch.rand(shape) * 50
            expected = numpy_rotary(positions.numpy(), config)
            for part, recorded in zip(rotary(positions, config), expected, strict=True):
                np.testing.assert_allclose(part, recorded, atol=1e-5)
    # Each frequency rotates by the position of its own axis.
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
    # Isolates head 2 by its columns of o_proj: values weighted by the returned attention give its output.
    attention = model.layers[1].attention
    assert isinstance(attention, Attention)
    value_BSD = output.caches[1][1][:, 2 // 2]
    expected_BTD = log_attention_BTS.exp() @ value_BSD
    heads_BTX: list[torch.Tensor] = []
    hook = attention.o_proj.register_forward_pre_hook(lambda _m, inputs: heads_BTX.append(inputs[0]))
    model(embedded_BTC, positions_BT)
    hook.remove()
    torch.testing.assert_close(heads_BTX[0].unflatten(2, (4, 8))[:, :, 2], expected_BTD, **TOLERANCE)
