"""Plans: experts with few tokens get a labelled fallback, and smoothing and ranges minimise the output error."""

from __future__ import annotations

import numpy as np
import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_calibration.decisions import Decision, choose_schemes, plan_quantization, uniform_plan
from unimoe_calibration.schemes import Engine, LinearPlan, Scheme
from unimoe_calibration.smoothing import balance
from unimoe_calibration.statistics import Linear, Statistics
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.reader import Bundle, open_bundle

LOUD = 3  # a channel that is far louder than the others


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("planning")
    config = tiny_config(hidden_size=32, routed_intermediate_size=24, num_layers=1)
    write_random_checkpoint(folder / "checkpoint", config)
    export_bundle(folder / "checkpoint", folder / "bundle")
    return open_bundle(folder / "bundle")


@pytest.fixture
def statistics(bundle: Bundle) -> Statistics:
    """Every product received 200 rows with one loud channel; expert 3 received none."""
    rng = np.random.default_rng(0)
    statistics = Statistics.empty(bundle.model)
    for linear, seen in statistics.linears.items():
        if linear.graph != "layers.0.expert.3":
            rows = rng.standard_normal((200, seen.num_channels)).astype(np.float32)
            rows[:, LOUD] *= 60
            seen.add("speech", rows)
    return statistics


@pytest.mark.parametrize(
    ("fallback", "scheme", "label"),
    [
        ("weight-only", Scheme.W8, "weight-only: 7 tokens received"),
        ("float", Scheme.FLOAT, "float: 7 tokens received"),
        ("nearest", Scheme.W8A8, "nearest: 7 tokens received"),
    ],
)
def test_an_expert_below_the_floor_falls_back(
    statistics: Statistics, fallback: str, scheme: Scheme, label: str
) -> None:
    schemes, labels = choose_schemes(statistics, Scheme.W8A8, Engine.ONNXRUNTIME, {(0, 1): 7}, fallback)
    assert {name for linear, name in schemes.items() if linear.graph == "layers.0.expert.1"} == {scheme}
    assert labels["layers.0.expert.1"] == label
    assert labels["layers.0.expert.3"] == "weight-only: its inputs were all 0"
    assert schemes[Linear("layers.0.expert.3", "down.weight")] == Scheme.W8
    assert schemes[Linear("layers.0.expert.0", "down.weight")] == Scheme.W8A8
    assert set(labels) == {"layers.0.expert.1", "layers.0.expert.3"}


def test_schemes_without_inputs_need_no_tokens(statistics: Statistics) -> None:
    for engine in Engine:
        schemes, labels = choose_schemes(statistics, Scheme.W8, engine, {(0, 1): 7}, "float")
        assert set(schemes.values()) == {Scheme.W8} and not labels


def test_four_bits_need_whole_blocks_in_tensorrt(statistics: Statistics) -> None:
    schemes, labels = choose_schemes(statistics, Scheme.W4, Engine.TENSORRT, {}, "weight-only")
    assert schemes[Linear("head", "head.weight")] == Scheme.W4
    assert schemes[Linear("layers.0.expert.0", "down.weight")] == Scheme.W8
    assert labels["layers.0.expert.0"] == "int8: 24 inputs of down.weight are no whole blocks"
    schemes, labels = choose_schemes(statistics, Scheme.W4, Engine.ONNXRUNTIME, {}, "weight-only")
    assert set(schemes.values()) == {Scheme.W4} and not labels


def test_smoothing_tames_a_loud_channel(bundle: Bundle, statistics: Statistics) -> None:
    schemes, _ = choose_schemes(statistics, Scheme.W8A8, Engine.ONNXRUNTIME, {}, "weight-only")
    plan, decisions = plan_quantization(bundle, statistics, schemes, Engine.ONNXRUNTIME)
    head = Linear("head", "head.weight")
    decision = decisions[head]
    assert decision.strength > 0 and decision.error is not None and decision.error < 0.02
    factors = plan.smoothing[head]
    assert factors[LOUD] >= 8 * np.median(factors)
    np.testing.assert_array_equal(np.log2(factors) % 1, 0)
    plain = uniform_plan(statistics, Scheme.W8A8, Engine.ONNXRUNTIME).linears[head]
    assert plain.input_range > 100  # type: ignore[operator]
    assert decision.plan.input_range < plain.input_range / 4  # type: ignore[operator]
    # All readers of the router's input share its factors, including expert 3 and the router.
    routed = {tuple(plan.smoothing[linear]) for linear in plan.smoothing if "gate_up" in linear.weight}
    assert routed == {tuple(plan.smoothing[Linear("layers.0.trunk", "router.weight")])}
    # The heads of a group read the same values.
    o_RGD = plan.smoothing[Linear("layers.0.trunk", "o.weight")].reshape(-1, bundle.model.num_kv_heads, 8)
    np.testing.assert_array_equal(o_RGD[0], o_RGD[1])
    record = decision.record()
    assert (
        record["rows"] == 200
        and record["scheme"] == "w8a8"
        and record["method"] in ("max", "percentile", "mse", "entropy")
    )
    assert record["input_scale"] == pytest.approx(record["input_range"] / 127)


def test_auto_errs_least_and_a_plan_repeats(bundle: Bundle, statistics: Statistics) -> None:
    schemes, _ = choose_schemes(statistics, Scheme.W8A8, Engine.ONNXRUNTIME, {}, "weight-only")
    linear = Linear("layers.0.expert.0", "down.weight")
    errors = {
        method: plan_quantization(bundle, statistics, schemes, Engine.ONNXRUNTIME, method=method)[1][linear].error
        for method in ("auto", "max", "percentile")
    }
    assert errors["auto"] == min(errors.values())  # type: ignore[type-var]
    first, second = (plan_quantization(bundle, statistics, schemes, Engine.ONNXRUNTIME)[0] for _ in range(2))
    assert first.linears == second.linears


def test_inputs_of_uneven_rows_get_a_range_for_each(bundle: Bundle, statistics: Statistics) -> None:
    schemes, _ = choose_schemes(statistics, Scheme.W8A8, Engine.ONNXRUNTIME, {}, "weight-only")
    uneven, even = Linear("layers.0.expert.0", "down.weight"), Linear("layers.0.expert.1", "down.weight")
    trunk = Linear("layers.0.trunk", "shared.down.weight")
    rng = np.random.default_rng(1)
    assert isinstance(statistics.linears, dict)
    for linear, seen in statistics.linears.items():
        if linear.weight == "down.weight" and linear != even:
            # One row in fifty is far larger: a static range that covers it leaves the others few codes.
            rows = rng.standard_normal((2000, seen.num_channels)).astype(np.float32)
            rows[::50] *= 30
            statistics.linears[linear] = seen = type(seen)(linear, seen.num_channels)
            seen.add("speech", rows)

    def inputs(method: str) -> dict[Linear, str]:
        decisions = plan_quantization(bundle, statistics, schemes, Engine.ONNXRUNTIME, method=method)[1]
        for linear, decision in decisions.items():
            assert decision.plan.per_row == (decision.plan.input_range is None and schemes[linear] == Scheme.W8A8)
        return {linear: decision.record()["inputs"] for linear, decision in decisions.items()}

    found = inputs("auto")
    # All products of one name use their median.
    assert found[uneven] == found[even] == "per row"
    assert found[Linear("layers.0.expert.3", "down.weight")] == "float32"
    assert found[trunk] == found[Linear("head", "head.weight")] == "static"
    assert "per row" not in inputs("percentile").values()


def test_balance_moves_the_given_share() -> None:
    x, w = np.array([16, 1, 1, 0], np.float32), np.array([1, 1, 1, 1], np.float32)
    np.testing.assert_array_equal(balance(x, w, 0.0), [1, 1, 1, 1])
    factors = balance(x, w, 1.0)
    assert factors[0] / factors[1] == 16 and factors[3] == 1
    assert balance(x, w, 0.5)[0] / balance(x, w, 0.5)[1] == 4


def test_a_mixture_keeps_no_range_of_the_precision_that_it_replaced() -> None:
    static = LinearPlan(scheme=Scheme.W8A8, input_range=1.5)
    decision = Decision(plan=static, strength=0.4, method="mse", error=0.01, num_rows=200)
    assert decision.under(static) is decision
    for scheme, error in ((Scheme.FLOAT, 0.0), (Scheme.W8, None)):
        record = decision.under(LinearPlan(scheme=scheme)).record()
        assert record["scheme"] == scheme and record["inputs"] == "float32" and record["error"] == error
        assert record["input_range"] is record["input_scale"] is record["method"] is None
        assert record["smoothing_strength"] == 0.4 and record["rows"] == 200
