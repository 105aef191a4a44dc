"""The numpy router against the public model's recorded routings and against a sort.

N tokens · R router rows (routed, null, shared) · E dynamic experts (routed, null) · S shared experts
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tests.random_checkpoint import tiny_config
from tests.sorted_routing import by_sorting
from unimoe_runtime.model.routing import route, select, softmax

VECTORS = Path(__file__).parents[2] / "vectors"
TOLERANCE: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-5}
PUBLIC = tiny_config(num_routed_experts=8, num_null_experts=1, num_shared_experts=2, weighting="sparsemixer")
BLOCK_CASES = ["A", "B", "C", "D_nomask", "D_nomask_auxw"]
EXAMPLES = settings(max_examples=60, deadline=None)

Floats = NDArray[np.float32]
# Few distinct values, so that exact ties are common; 0 and -0 also tie.
LEVELS = st.sampled_from([-3.0, -1.0, -0.0, 0.0, 0.5, 0.505, 1.0, 1.001, 2.0, 8.0])
LOGITS = arrays(np.float32, st.tuples(st.integers(1, 6), st.just(9)), elements=LEVELS)


def check(logits_NR: Floats, picked_NR: NDArray[np.integer], count_N: NDArray[np.int64], weights_NR: Floats) -> None:
    weights_NE, weights_NS = route(logits_NR, PUBLIC)
    picked_NE = select(logits_NR[:, :9], PUBLIC)
    np.testing.assert_array_equal(picked_NE, picked_NR[:, :9] > 0)
    np.testing.assert_array_equal(picked_NE.sum(axis=1), count_N)
    np.testing.assert_array_equal(weights_NE > 0, picked_NE)
    np.testing.assert_allclose(np.concatenate([weights_NE, weights_NS], axis=1), weights_NR, **TOLERANCE)


@pytest.mark.parametrize("case", [*BLOCK_CASES, "edge"])
def test_recorded_blocks(case: str) -> None:
    vectors = load_file(VECTORS / ("moe_edge_cases.safetensors" if case == "edge" else "moe_block_cases.safetensors"))
    names = ("full_router_logits", "expert_mask", "dynamic_top_k", "global_weight")
    check(*(vectors[f"{case}.{name}"] for name in names))


@pytest.mark.parametrize("prompt", ["text", "voice"])
def test_recorded_model_runs(prompt: str) -> None:
    vectors = load_file(VECTORS / f"lm_{prompt}_prompt.safetensors")
    names = ("router_logits", "expert_mask", "dynamic_top_k", "global_weight")
    for layer in range(3):
        check(*(vectors[f"prefill.{name}.{layer}"] for name in names))
        for step in range(10):
            check(*(vectors[f"decode.{name}"][step, layer] for name in names))


def test_recorded_multipliers_of_near_ties() -> None:
    """The multipliers come in the order of selection; -1 marks the rest."""
    vectors = load_file(VECTORS / "moe_edge_cases.safetensors")
    weights_NE, weights_NS = route(vectors["edge.full_router_logits"], PUBLIC)
    compared = 0
    for token, experts in enumerate(vectors["edge.mixer_selected_experts"]):
        count = (experts >= 0).sum()
        multipliers = vectors["edge.mixer_multiplier"][token, :count]
        # Huge shared logits leave the dynamic experts a share too small to divide by in float32.
        if weights_NS[token].sum() < 0.99:
            shares = weights_NE[token, experts[:count]] / (1 - weights_NS[token].sum())
            np.testing.assert_allclose(shares, multipliers / (multipliers.sum() + 1e-6), atol=1e-5)
            compared += 1
    assert compared >= 19


@EXAMPLES
@given(LOGITS, st.sampled_from([0.13, 0.37, 0.7, 0.95, 1.0]))
def test_top_p_selects_what_a_stable_sort_selects(logits_NE: Floats, top_p: float) -> None:
    config = tiny_config(num_routed_experts=8, top_p=top_p)
    sums_NE = -np.sort(-softmax(logits_NE).astype(np.float64), axis=1)
    # Within rounding error of the threshold both answers are right.
    clear_N = np.abs(sums_NE.cumsum(axis=1) - top_p).min(axis=1) > 1e-5
    np.testing.assert_array_equal(select(logits_NE, config)[clear_N], by_sorting(logits_NE, config)[clear_N])


@EXAMPLES
@given(LOGITS, st.integers(1, 9))
def test_top_k_selects_the_first_k_of_a_stable_sort(logits_NE: Floats, k: int) -> None:
    config = tiny_config(num_routed_experts=8, selection="top_k", top_k=k)
    picked_NE = select(logits_NE, config)
    assert (picked_NE.sum(axis=1) == k).all()
    np.testing.assert_array_equal(picked_NE, by_sorting(logits_NE, config))


@EXAMPLES
@given(
    st.data(),
    st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 3)),
    st.sampled_from(["probability", "sparsemixer"]),
    st.sampled_from(["top_p", "top_k"]),
)
def test_weights_are_shares_for_any_number_of_experts(
    data: st.DataObject, counts: tuple[int, int, int], weighting: str, selection: str
) -> None:
    num_routed, num_null, num_shared = counts
    config = tiny_config(
        num_routed_experts=num_routed, num_null_experts=num_null, num_shared_experts=num_shared,
        weighting=weighting, selection=selection, top_k=1,
    )  # fmt: skip
    logits_NR = data.draw(arrays(np.float32, (3, config.num_router_rows), elements=LEVELS))
    weights_NE, weights_NS = route(logits_NR, config)
    assert weights_NE.shape == (3, num_routed + num_null) and weights_NS.shape == (3, num_shared)
    assert np.isfinite(weights_NE).all() and np.isfinite(weights_NS).all()
    if num_routed + num_null:
        np.testing.assert_array_equal(weights_NE > 0, select(logits_NR[:, : num_routed + num_null], config))
    total_N = weights_NE.sum(axis=1)
    if weighting == "sparsemixer" and config.num_router_rows:
        np.testing.assert_allclose(total_N + weights_NS.sum(axis=1), 1, atol=1e-5)
    else:
        assert (weights_NS == 1).all()
        np.testing.assert_allclose(total_N, 1 if num_routed + num_null else 0, atol=1e-6)
