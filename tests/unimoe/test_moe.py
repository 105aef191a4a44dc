"""The MoE block: the public model's recorded cases, a naive loop over tokens, and unusual numbers of experts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from tests.unimoe.public_aux_loss import public_aux_loss
from unimoe.checkpoint import empty_model, tensor_views
from unimoe.config import ModelConfig, preset
from unimoe.model import UniMoE
from unimoe.moe import MoE, grouped_linear, one_grouped_product
from unimoe.router import comes_before, select
from unimoe_runtime.checkpoint import published as public_format
from unimoe_runtime.config import DropPolicy

VECTORS = Path(__file__).parents[1] / "vectors"
TOLERANCE: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-5}
CASES = ["A", "B", "C", "D_mask", "D_mask_auxw", "D_nomask", "D_nomask_auxw", "edge", "edge_masked"]


def first_moe(model: UniMoE) -> MoE:
    moe = model.layers[0].moe
    assert isinstance(moe, MoE)
    return moe


@pytest.fixture
def block() -> MoE:
    """The block of the recorded cases, loaded through the published names."""
    config = public_format.model_config(json.loads((VECTORS / "tiny_config.json").read_text()))
    model = empty_model(config)
    views = tensor_views(model)
    for name, tensor in load_file(VECTORS / "moe_block_state.safetensors").items():
        canonical = public_format.canonical_name(f"language_model.layers.0.mlp.{name}")
        assert canonical is not None
        views[canonical].copy_(tensor)
    return first_moe(model).eval()


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_recorded_case(block: MoE, case: str) -> None:
    edge = case.startswith("edge")
    vectors = load_file(VECTORS / ("moe_edge_cases.safetensors" if edge else "moe_block_cases.safetensors"))
    if edge:
        assert block.router is not None
        block.router.weight.copy_(vectors["edge.gate_weight"])
    expected = {name.removeprefix(f"{case}."): t for name, t in vectors.items() if name.startswith(f"{case}.")}
    mask_BT, aux_weight_BT = expected.get("attention_mask"), expected.get("aux_balance_weight")

    output_BTC, routing = block(expected["hidden_states"], mask_BT, aux_weight_BT)

    assert routing is not None and routing.shared_weights_NS is not None
    torch.testing.assert_close(output_BTC, expected["output"], **TOLERANCE)
    torch.testing.assert_close(routing.logits_NR, expected["full_router_logits"], **TOLERANCE)
    weights_NR = torch.cat([routing.weights_NE, routing.shared_weights_NS], dim=1)
    torch.testing.assert_close(weights_NR, expected["global_weight"], **TOLERANCE)
    always_NS = torch.ones_like(routing.shared_weights_NS, dtype=torch.bool)
    picked_NR = torch.cat([routing.picked_NE, always_NS], dim=1)
    torch.testing.assert_close(picked_NR.int(), expected["expert_mask"])
    # The public model records how many experts a padded token would have picked.
    logits_NE = routing.logits_NR[:, :9]
    unmasked_NE = select(logits_NE, comes_before(logits_NE), block.config)
    torch.testing.assert_close(unmasked_NE.sum(dim=1), expected["dynamic_top_k"])
    aux_loss = routing.aux_loss
    if mask_BT is not None and aux_weight_BT is None:
        aux_loss = public_aux_loss(aux_loss, routing.picked_NE, mask_BT)
    torch.testing.assert_close(aux_loss, expected["aux_loss"], **TOLERANCE)


@pytest.mark.parametrize("policy", ["probs", "position"])
@torch.no_grad()
def test_recorded_token_dropping(block: MoE, policy: DropPolicy) -> None:
    recorded = load_file(VECTORS / "moe_block_cases.safetensors")
    prefix = f"E_drop_{policy}."
    expected = {name.removeprefix(prefix): t for name, t in recorded.items() if name.startswith(prefix)}
    assert block.router is not None
    config = dataclasses.replace(block.config, token_drop=True, drop_policy=policy, capacity_factor=2.0, min_capacity=4)
    block.config = block.router.config = config

    output_BTC, routing = block(expected["hidden_states"])

    assert routing is not None and routing.shared_weights_NS is not None
    torch.testing.assert_close(routing.picked_NE.int(), expected["expert_mask"][:, :9])
    assert (routing.picked_NE.sum(dim=0) <= 11).all() and (~routing.picked_NE.any(dim=1)).any()
    torch.testing.assert_close(routing.aux_loss, expected["aux_loss"], **TOLERANCE)  # of the picks before the drop
    # By position, the public code also drops shared experts, after the first 11 tokens. If a dynamic expert is left,
    # its weights are then ours without the shared experts' part; if none is left, they are NaN.
    has_shared_N = expected["expert_mask"][:, 9:].bool().all(dim=1)
    is_sound_N = ~expected["global_weight"].isnan().any(dim=1)
    assert (int(has_shared_N.sum()), int(is_sound_N.sum())) == ((48, 48) if policy == "probs" else (11, 34))
    weights_NR = torch.cat([routing.weights_NE, routing.shared_weights_NS], dim=1)
    torch.testing.assert_close(weights_NR[has_shared_N], expected["global_weight"][has_shared_N], **TOLERANCE)
    output_NC, recorded_NC = output_BTC.flatten(0, 1), expected["output"].flatten(0, 1)
    torch.testing.assert_close(output_NC[has_shared_N], recorded_NC[has_shared_N], **TOLERANCE)
    without_N = is_sound_N & ~has_shared_N
    alone_NE = routing.weights_NE / routing.weights_NE.sum(dim=1, keepdim=True)
    torch.testing.assert_close(alone_NE[without_N], expected["global_weight"][without_N, :9], **TOLERANCE)
    assert output_NC.isfinite().all()


@pytest.mark.parametrize("weighting", ["probability", "sparsemixer"])
def test_dropping_keeps_to_the_capacity_and_trains(weighting: str) -> None:
    torch.manual_seed(0)
    config = preset("tiny", weighting=weighting, token_drop=True, capacity_factor=1.0, min_capacity=2)
    model = UniMoE(config)
    moe = first_moe(model)
    hidden_BTC = torch.randn(2, 20, config.hidden_size, requires_grad=True)
    output_BTC, routing = moe(hidden_BTC, torch.arange(20).expand(2, 20) >= 5)
    assert routing is not None
    assert int(routing.picked_NE.sum(dim=0).max()) <= 8  # 40 tokens over 5 dynamic experts
    assert not routing.picked_NE.unflatten(0, (2, 20))[:, :5].any()
    assert (routing.weights_NE[~routing.picked_NE] == 0).all()
    output_BTC.sum().backward()
    assert hidden_BTC.grad is not None and hidden_BTC.grad.isfinite().all()
    few, _ = moe(hidden_BTC[:1, :2].detach())
    assert moe.router is not None
    moe.router.config = dataclasses.replace(config, token_drop=False)
    torch.testing.assert_close(few, moe(hidden_BTC[:1, :2].detach())[0])


@torch.no_grad()
def naive(moe: MoE, hidden_NC: torch.Tensor, routable_N: torch.Tensor) -> torch.Tensor:
    """The block computed token by token and expert by expert from the stored tensors."""
    config = moe.config
    model = empty_model(config.__class__.from_dict({**config.to_dict(), "num_layers": 1}))
    model.layers[0].moe = moe
    tensors = {name.removeprefix("layers.0.moe."): t for name, t in tensor_views(model).items() if ".moe." in name}

    def expert(prefix: str, x: torch.Tensor) -> torch.Tensor:
        gate, up, down = (tensors[f"{prefix}.{name}_proj.weight"] for name in ("gate", "up", "down"))
        return down @ (F.silu(gate @ x) * (up @ x))

    routing = moe.router(hidden_NC, routable_N) if moe.router is not None else None
    shared_NS = routing.shared_weights_NS if routing is not None else None
    out_NC = torch.zeros_like(hidden_NC)
    for token, x in enumerate(hidden_NC):
        for index in range(config.num_routed_experts):
            assert routing is not None
            if routing.picked_NE[token, index]:
                out_NC[token] += routing.weights_NE[token, index] * expert(f"experts.{index}", x)
        for index in range(config.num_shared_experts):
            weight = 1.0 if shared_NS is None else shared_NS[token, index]
            out_NC[token] += weight * expert(f"shared.{index}", x)
    return out_NC


@pytest.mark.parametrize("weighting", ["probability", "sparsemixer"])
@pytest.mark.parametrize("selection", ["top_p", "top_k"])
@pytest.mark.parametrize(
    ("num_routed", "num_null", "num_shared"),
    [(4, 1, 1), (4, 0, 2), (3, 2, 0), (0, 1, 1), (0, 0, 1), (1, 0, 0), (0, 0, 0)],
)
def test_grouped_dispatch_equals_a_naive_loop(
    num_routed: int, num_null: int, num_shared: int, selection: str, weighting: str
) -> None:
    torch.manual_seed(num_routed)
    config = preset(
        "tiny", num_routed_experts=num_routed, num_null_experts=num_null, num_shared_experts=num_shared,
        selection=selection, top_k=1, weighting=weighting, num_layers=1,
    )  # fmt: skip
    moe = first_moe(UniMoE(config)).eval()
    hidden_BTC = torch.randn(2, 9, config.hidden_size) * 3
    routable_BT = torch.rand(2, 9) > 0.2
    output_BTC, routing = moe(hidden_BTC, routable_BT)
    assert (routing is None) == (config.num_router_rows == 0)
    expected_NC = naive(moe, hidden_BTC.flatten(0, 1), routable_BT.flatten())
    torch.testing.assert_close(output_BTC.flatten(0, 1), expected_NC, **TOLERANCE)


def small_config(**changes: object) -> ModelConfig:
    return preset(
        "tiny",
        **{"hidden_size": 6, "routed_intermediate_size": 4, "shared_intermediate_size": 3, "num_layers": 1, **changes},
    )


@pytest.mark.parametrize("weighting", ["probability", "sparsemixer"])
def test_gradients_equal_finite_differences(weighting: str) -> None:
    torch.manual_seed(3)
    moe = first_moe(UniMoE(small_config(weighting=weighting, num_shared_experts=2))).double()
    experts = moe.experts
    assert experts is not None
    hidden_BTC = torch.randn(1, 5, 6, dtype=torch.float64, requires_grad=True)
    # The router computes in float32, so a fixed routing serves to compare its weights and the path through it.
    weights_NE = torch.rand(5, 4, dtype=torch.float64, requires_grad=True)
    picked_NE = torch.rand(5, 4) > 0.4
    picked_NE[:, 2] = False  # an expert without tokens

    def run(hidden: torch.Tensor, weights: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        parameters = {"gate_up": gate_up, "down": down}
        arguments = (torch.zeros(5, 6, dtype=torch.float64), hidden[0], weights, picked_NE)
        return torch.func.functional_call(experts, parameters, arguments)

    assert torch.autograd.gradcheck(run, (hidden_BTC, weights_NE, experts.gate_up, experts.down), atol=1e-6)


def test_an_overflowing_expert_that_was_not_picked_changes_nothing() -> None:
    torch.manual_seed(0)
    moe = first_moe(UniMoE(small_config())).eval()
    assert moe.experts is not None
    hidden_BTC = torch.randn(1, 1, 6)
    with torch.no_grad():
        _, routing = moe(hidden_BTC)
        idle = (~routing.picked_NE[:, :4].any(dim=0)).nonzero().flatten().tolist()
        assert idle
        expected, _ = moe(hidden_BTC)
        for expert in idle:
            moe.experts.gate_up[expert] = torch.inf
        torch.testing.assert_close(moe(hidden_BTC)[0], expected, atol=0, rtol=0)


def test_input_jitter_only_in_training() -> None:
    moe = first_moe(UniMoE(small_config(input_jitter_noise=0.1)))
    hidden_BTC = torch.randn(1, 3, 6)
    moe.eval()
    torch.testing.assert_close(moe(hidden_BTC)[0], moe(hidden_BTC)[0], atol=0, rtol=0)
    moe.train()
    assert not torch.equal(moe(hidden_BTC)[0], moe(hidden_BTC)[0])


@pytest.mark.parametrize("grouped", [False, True])
def test_bfloat16_changes_little(grouped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The grouped product is a GPU's path. The CPU has the same operation, so results and gradients are compared."""
    if grouped:
        monkeypatch.setattr("unimoe.moe.grouped_linear", _by_one_product)
    torch.manual_seed(0)
    moe = first_moe(UniMoE(preset("tiny", num_routed_experts=8)))
    hidden_BTC = torch.randn(2, 16, 32)
    found = []
    for enabled in (False, True):
        moe.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output_BTC, routing = moe(hidden_BTC)
        assert routing is not None and routing.weights_NE.dtype == torch.float32
        output_BTC.float().pow(2).sum().backward()
        assert moe.experts is not None and moe.experts.gate_up.grad is not None
        found.append((output_BTC.detach().float(), moe.experts.gate_up.grad.clone()))
    for exact, rounded in zip(*found, strict=True):
        assert float((exact - rounded).norm() / exact.norm()) < 0.02


def _by_one_product(x_AC: torch.Tensor, weight_EOC: torch.Tensor, counts_E: torch.Tensor) -> torch.Tensor:
    if not torch.is_autocast_enabled("cpu"):
        return grouped_linear(x_AC, weight_EOC, counts_E)
    return one_grouped_product(x_AC.bfloat16(), weight_EOC.bfloat16(), counts_E)
