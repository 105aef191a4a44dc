"""Selection and weights: against a stable sort, the numpy oracle, and the paper's formulas.

N tokens · R router rows · E dynamic experts (routed, null) · S shared experts
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unimoe.config import ModelConfig, preset
from unimoe.router import Router, balance_loss, comes_before, route, select
from unimoe_runtime.model import routing as oracle

SETTINGS = settings(max_examples=60, deadline=None)


def config(num_routed: int = 4, num_null: int = 1, num_shared: int = 1, **changes: object) -> ModelConfig:
    return preset(
        "tiny",
        num_routed_experts=num_routed, num_null_experts=num_null, num_shared_experts=num_shared,
        **{"routed_intermediate_size": 8, "shared_intermediate_size": 8, **changes},
    )  # fmt: skip


@st.composite
def logits_with_ties(draw: st.DrawFn, num_rows: int) -> torch.Tensor:
    """Few distinct values, so that exact ties are common; scaled, so that one or many experts are picked."""
    values = draw(st.lists(st.lists(st.integers(-4, 4), min_size=num_rows, max_size=num_rows), min_size=1, max_size=6))
    return torch.tensor(values, dtype=torch.float32) * draw(st.sampled_from([0.1, 0.7, 3.0]))


def sorted_selection(logits_NE: torch.Tensor, top_p: float) -> NDArray[np.bool_]:
    """The paper's Eq. 2, literally: sort, add up, stop at P."""
    probs_NE = logits_NE.softmax(dim=1).numpy().astype(np.float64)
    order_NE = np.argsort(-logits_NE.numpy(), axis=1, kind="stable")
    mass_NE = np.take_along_axis(probs_NE, order_NE, axis=1).cumsum(axis=1)
    if (np.abs(mass_NE - top_p) < 1e-5).any():
        return np.empty(0, dtype=bool)  # within rounding error of the threshold both answers are right
    count_N1 = (mass_NE < top_p).sum(axis=1, keepdims=True) + 1
    picked_NE = np.zeros(probs_NE.shape, dtype=bool)
    np.put_along_axis(picked_NE, order_NE, np.arange(probs_NE.shape[1])[None] < count_N1, axis=1)
    return picked_NE


@SETTINGS
@given(logits_with_ties(9), st.sampled_from([0.13, 0.37, 0.7, 0.95]))
def test_top_p_selects_what_a_stable_sort_selects(logits_NE: torch.Tensor, top_p: float) -> None:
    expected_NE = sorted_selection(logits_NE, top_p)
    if expected_NE.size:
        picked_NE = select(logits_NE, comes_before(logits_NE), config(8, top_p=top_p))
        np.testing.assert_array_equal(picked_NE.numpy(), expected_NE)


@SETTINGS
@given(logits_with_ties(5), st.integers(1, 5))
def test_top_k_selects_k_of_the_stable_order(logits_NE: torch.Tensor, k: int) -> None:
    picked_NE = select(logits_NE, comes_before(logits_NE), config(selection="top_k", top_k=k)).numpy()
    order_NE = np.argsort(-logits_NE.numpy(), axis=1, kind="stable")
    assert (picked_NE.sum(axis=1) == k).all()
    assert np.take_along_axis(picked_NE, order_NE[:, :k], axis=1).all()


@SETTINGS
@given(st.data(), st.sampled_from(["probability", "sparsemixer"]), st.sampled_from(["top_p", "top_k"]))
def test_weights_equal_the_numpy_oracle(data: st.DataObject, weighting: str, selection: str) -> None:
    settings_ = config(4, 1, 2, weighting=weighting, selection=selection, top_p=0.63)
    logits_NR = data.draw(logits_with_ties(settings_.num_router_rows))
    routing = route(logits_NR, settings_)
    weights_NE, shared_NS = oracle.route(logits_NR.numpy(), settings_)
    np.testing.assert_allclose(routing.weights_NE, weights_NE, atol=2e-6)
    if routing.shared_weights_NS is None:
        assert (shared_NS == 1).all()
    else:
        np.testing.assert_allclose(routing.shared_weights_NS, shared_NS, atol=2e-6)


@SETTINGS
@given(st.data(), st.sampled_from(["probability", "sparsemixer"]))
def test_weights_are_shares_and_padding_has_none(data: st.DataObject, weighting: str) -> None:
    settings_ = config(4, 1, 2, weighting=weighting)
    logits_NR = data.draw(logits_with_ties(settings_.num_router_rows))
    routable_N = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(logits_NR), max_size=len(logits_NR))))
    routing = route(logits_NR, settings_, routable_N)
    total_N = routing.weights_NE.sum(dim=1)
    if routing.shared_weights_NS is not None:
        total_N = total_N + routing.shared_weights_NS.sum(dim=1)
        torch.testing.assert_close(total_N, torch.ones_like(total_N), atol=1e-5, rtol=0)
    else:
        torch.testing.assert_close(total_N, routable_N.float(), atol=1e-5, rtol=0)
    assert not routing.weights_NE[~routable_N].any()
    assert not routing.picked_NE[~routable_N].any()
    assert ((routing.weights_NE > 0) == routing.picked_NE).all()
    assert (routing.picked_NE.sum(dim=1)[routable_N] >= 1).all()


def test_probability_weights_are_the_normalised_probabilities_of_the_paper() -> None:
    logits_NR = torch.tensor([[2.0, 1.0, 0.0, -1.0, 1.5]])  # the null expert stands last
    p = logits_NR.softmax(dim=1)[0]
    routing = route(logits_NR, config(top_p=0.7))
    assert routing.picked_NE.tolist() == [[True, False, False, False, True]]
    torch.testing.assert_close(routing.weights_NE[0, [0, 4]], p[[0, 4]] / (p[0] + p[4]))


@pytest.mark.parametrize("weighting", ["probability", "sparsemixer"])
@pytest.mark.parametrize(("num_routed", "num_null"), [(4, 0), (0, 1), (0, 0), (1, 0), (3, 2)])
def test_any_number_of_experts(num_routed: int, num_null: int, weighting: str) -> None:
    settings_ = config(num_routed, num_null, 2, weighting=weighting)
    routing = route(torch.randn(6, settings_.num_router_rows), settings_, torch.tensor([True] * 5 + [False]))
    assert routing.weights_NE.shape == (6, num_routed + num_null)
    assert torch.isfinite(routing.weights_NE).all()
    assert torch.isfinite(routing.aux_loss)
    if weighting == "sparsemixer":
        assert routing.shared_weights_NS is not None
        torch.testing.assert_close(routing.shared_weights_NS[5].sum(), torch.tensor(1.0))


def test_balance_loss_is_smallest_for_even_load_and_ignores_tokens_of_weight_zero() -> None:
    even = torch.eye(4)
    uneven = torch.eye(4)[[0, 0, 0, 1]]
    assert balance_loss(even > 0, even) == pytest.approx(1.0)
    assert balance_loss(uneven > 0, uneven) > 2.0
    weight_N = torch.tensor([1.0, 1.0, 0.0, 1.0])
    kept = balance_loss(uneven[[0, 1, 3]] > 0, uneven[[0, 1, 3]])
    torch.testing.assert_close(balance_loss(uneven > 0, uneven, weight_N), kept)


def test_router_computes_in_float32_under_autocast() -> None:
    router = Router(config())
    torch.nn.init.normal_(router.weight)
    hidden_NC = torch.randn(7, router.config.hidden_size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = router(hidden_NC)
    torch.testing.assert_close(inside.logits_NR, router(hidden_NC).logits_NR, atol=0, rtol=0)


def test_gradients_reach_the_router_and_rows_without_a_pick_give_none() -> None:
    for weighting in ("probability", "sparsemixer"):
        settings_ = config(weighting=weighting)
        logits_NR = torch.randn(5, settings_.num_router_rows, requires_grad=True)
        routing = route(logits_NR, settings_, torch.tensor([True, True, True, True, False]))
        (routing.weights_NE.square().sum() + routing.aux_loss).backward()
        assert logits_NR.grad is not None and torch.isfinite(logits_NR.grad).all()
        assert logits_NR.grad[:4].any() and not logits_NR.grad[4].any()
