"""Routing nodes in ONNX Runtime: against the public model's recorded cases, a sorting formula, and the oracle.

N tokens · R router rows · E dynamic experts · S shared experts · C hidden
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tests.export.running import run_graph, save_values
from tests.random_checkpoint import tiny_config
from tests.sorted_routing import by_sorting
from unimoe_export.graphs.builder import GraphBuilder
from unimoe_export.graphs.expert import expert_graph
from unimoe_export.graphs.feed_forward import shared_experts
from unimoe_export.graphs.routing import route
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.model import routing as oracle

VECTORS = Path(__file__).parents[2] / "vectors"
PUBLIC = tiny_config(
    hidden_size=64, num_routed_experts=8, num_null_experts=1, num_shared_experts=2, routed_intermediate_size=96,
    shared_intermediate_size=48, weighting="sparsemixer",
)  # fmt: skip
BLOCK_CASES = ["A", "B", "C", "D_nomask", "D_nomask_auxw"]

Floats = NDArray[np.float32]


def routing_graph(folder: Path, config: ModelConfig) -> Path:
    """router logits -> weights_NE and, if shared experts are weighted, shared_NS."""
    builder = GraphBuilder("routing", save_values(folder / "routing.safetensors", {}))
    logits_NR = builder.input("logits_NR", "float32", ("N", config.num_router_rows))
    weights_NE, shared_NS = route(builder, logits_NR, config)
    assert weights_NE is not None
    builder.output(weights_NE, "weights_NE", "float32", ("N", config.num_dynamic_experts))
    if shared_NS is not None:
        builder.output(shared_NS, "shared_NS", "float32", ("N", config.num_shared_experts))
    builder.save(folder / "routing.onnx")
    return folder / "routing.onnx"


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    """A routing session and its configuration for each weighting and selection."""
    made = {}
    for weighting in ("probability", "sparsemixer"):
        for selection in ("top_p", "top_k"):
            config = tiny_config(
                num_routed_experts=5, num_null_experts=2, num_shared_experts=2, weighting=weighting,
                selection=selection, top_k=3,
            )  # fmt: skip
            made[weighting, selection] = config, routing_graph(tmp_path_factory.mktemp("routing"), config)
    return made


def threshold_margin(logits_NE: Floats, top_p: float) -> Floats:
    """The distance of a token's cumulative sums from the Top-P threshold."""
    ordered_NE = -np.sort(-oracle.softmax(logits_NE).astype(np.float64), axis=-1)
    return np.abs(np.cumsum(ordered_NE, axis=-1) - top_p).min(axis=-1)


# Few distinct values, so that ties are common; 0 and -0 also tie.
LOGITS = st.lists(
    st.lists(st.sampled_from([-3.0, -1.0, -0.0, 0.0, 0.5, 0.505, 1.0, 1.001, 2.0, 8.0]), min_size=9, max_size=9),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("weighting", ["probability", "sparsemixer"])
@pytest.mark.parametrize("selection", ["top_p", "top_k"])
@settings(max_examples=150, deadline=None)
@given(rows=LOGITS)
def test_ties_and_all(sessions: dict[Any, Any], weighting: str, selection: str, rows: list[list[float]]) -> None:
    config, path = sessions[weighting, selection]
    logits_NR = np.array(rows, dtype=np.float32)[:, : config.num_router_rows]
    logits_NE = logits_NR[:, : config.num_dynamic_experts]
    clear_N = (
        threshold_margin(logits_NE, config.top_p) > 1e-6 if selection == "top_p" else np.ones(len(logits_NR), bool)
    )
    found = run_graph(path, {"logits_NR": logits_NR})
    expected_NE, expected_NS = oracle.route(logits_NR, config)
    np.testing.assert_array_equal((found["weights_NE"] != 0)[clear_N], by_sorting(logits_NE, config)[clear_N])
    np.testing.assert_allclose(found["weights_NE"][clear_N], expected_NE[clear_N], atol=1e-6, rtol=1e-5)
    if weighting == "probability":
        np.testing.assert_allclose(found["weights_NE"].sum(axis=-1), 1, rtol=1e-6)
    else:
        np.testing.assert_allclose(found["shared_NS"][clear_N], expected_NS[clear_N], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("selection", ["top_p", "top_k"])
@pytest.mark.parametrize("weighting", ["probability", "sparsemixer"])
def test_many_random_tokens(sessions: dict[Any, Any], weighting: str, selection: str) -> None:
    config, path = sessions[weighting, selection]
    random = np.random.default_rng(1)
    scale_N1 = np.exp(random.uniform(-4, 3, (2000, 1)))
    logits_NR = (random.standard_normal((2000, config.num_router_rows)) * scale_N1).astype(np.float32)
    logits_NE = logits_NR[:, : config.num_dynamic_experts]
    found_NE = run_graph(path, {"logits_NR": logits_NR})["weights_NE"]
    clear_N = threshold_margin(logits_NE, config.top_p) > 1e-6
    assert clear_N.mean() > 0.99
    np.testing.assert_array_equal((found_NE != 0)[clear_N], by_sorting(logits_NE, config)[clear_N])
    if weighting == "probability":
        expected_NE, _ = oracle.route(logits_NR, config)
        np.testing.assert_allclose(found_NE[clear_N], expected_NE[clear_N], atol=1e-6)


def test_recorded_edge_cases(tmp_path: Path) -> None:
    """The weights equal the public model's for exact and near ties, one-hot, uniform, all-negative and huge logits."""
    cases = load_file(VECTORS / "moe_edge_cases.safetensors")
    path = routing_graph(tmp_path, PUBLIC)
    found = run_graph(path, {"logits_NR": cases["edge.full_router_logits"]})
    found_NR = np.concatenate([found["weights_NE"], found["shared_NS"]], axis=-1)
    np.testing.assert_array_equal(found["weights_NE"] > 0, cases["edge.expert_mask"][:, :9] > 0)
    np.testing.assert_allclose(found_NR, cases["edge.global_weight"], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("case", BLOCK_CASES)
def test_recorded_blocks(tmp_path: Path, case: str) -> None:
    """A whole MoE block (router, selection, shared and routed experts) with weights of the public model."""
    state = load_file(VECTORS / "moe_block_state.safetensors")
    cases = load_file(VECTORS / "moe_block_cases.safetensors")
    x_NC = cases[f"{case}.hidden_states"].reshape(-1, 64)
    outputs = run_graph(public_block(tmp_path, state), {"x_NC": x_NC})
    found_NR = np.concatenate([outputs["weights_NE"], outputs["shared_NS"]], axis=-1)
    np.testing.assert_array_equal(found_NR > 0, cases[f"{case}.expert_mask"] > 0)
    np.testing.assert_allclose(found_NR, cases[f"{case}.global_weight"], atol=1e-5, rtol=1e-5)
    accumulator_NC = outputs["accumulator_NC"]
    for expert in range(8):
        gate, up, down = (
            state[f"dynamic_real_moe.deepspeed_moe.experts.deepspeed_experts.{expert}.{part}_proj.weight"]
            for part in ("gate", "up", "down")
        )
        weights = {"gate_up.weight": np.concatenate([gate, up]).T, "down.weight": down.T}
        accumulator_NC = run_graph(
            expert_path(tmp_path / f"expert_{expert}", weights),
            {
                "accumulator_NC": accumulator_NC,
                "expert_input_NC": x_NC,
                "weight_N1": outputs["weights_NE"][:, expert : expert + 1],
            },
        )["new_accumulator_NC"]
    np.testing.assert_allclose(accumulator_NC, cases[f"{case}.output"].reshape(-1, 64), atol=1e-4, rtol=1e-5)


def public_block(folder: Path, state: dict[str, Floats]) -> Path:
    """x -> router weights, and an accumulator that holds only the weighted shared experts."""
    halves = [state[f"fixed_real_moe.{index}.{part}_proj.weight"] for part in ("gate", "up") for index in range(2)]
    downs = [state[f"fixed_real_moe.{index}.down_proj.weight"] for index in range(2)]
    values = {
        "router.weight": state["gate.weight"].T,
        "shared.gate_up.weight": np.concatenate(halves).T,
        "shared.down.weight": np.concatenate(downs, axis=1).T,
    }
    builder = GraphBuilder("block", save_values(folder / "block.safetensors", values))
    x_NC = builder.input("x_NC", "float32", ("N", 64))
    logits_NR = builder.op("MatMul", [x_NC, builder.weight("router.weight")])
    weights_NE, shared_NS = route(builder, logits_NR, PUBLIC)
    assert weights_NE is not None and shared_NS is not None
    nothing_NC = builder.op("Mul", [x_NC, builder.constant(0.0, "float32")])
    accumulator_NC = shared_experts(builder, nothing_NC, x_NC, shared_NS, PUBLIC)
    builder.output(weights_NE, "weights_NE", "float32", ("N", 9))
    builder.output(shared_NS, "shared_NS", "float32", ("N", 2))
    builder.output(accumulator_NC, "accumulator_NC", "float32", ("N", 64))
    builder.save(folder / "block.onnx")
    return folder / "block.onnx"


def expert_path(stem: Path, weights: dict[str, Floats]) -> Path:
    builder = expert_graph(PUBLIC, save_values(stem.with_suffix(".safetensors"), weights))
    builder.save(stem.with_suffix(".onnx"))
    return stem.with_suffix(".onnx")


@pytest.mark.parametrize(("weighting", "selection"), [("probability", "top_p"), ("sparsemixer", "top_p")])
def test_a_token_has_the_same_weights_wherever_it_stands(
    sessions: dict[tuple[str, str], Any], weighting: str, selection: str
) -> None:
    """Equal to the bit, because shared decode steps rely on it."""
    config, graph = sessions[weighting, selection]
    random = np.random.default_rng(0)
    logits_NR = random.standard_normal((32, config.num_router_rows)).astype(np.float32)
    together = run_graph(graph, {"logits_NR": logits_NR})["weights_NE"]
    for row in range(len(logits_NR)):
        alone = run_graph(graph, {"logits_NR": logits_NR[row : row + 1]})["weights_NE"]
        np.testing.assert_array_equal(alone[0], together[row])
