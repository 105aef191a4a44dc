"""Mixed precision: each graph's own cost, and a search that keeps to limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_calibration.data import ItemReader, Sample, read_data
from unimoe_calibration.mixed_precision import FLOAT, mix_precisions, open_formats
from unimoe_calibration.mixing import MixedBackend
from unimoe_calibration.pareto import draw_pareto
from unimoe_calibration.schemes import Engine, LinearPlan, QuantizationPlan, Scheme
from unimoe_calibration.search import Mixture, MixtureLimits, Search
from unimoe_calibration.sensitivity import Sensitivity, Trial, measure
from unimoe_calibration.statistics import Linear, linears
from unimoe_calibration.writing import write_quantized
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.reader import Bundle, language_model_graphs, open_bundle
from unimoe_runtime.errors import CalibrationError
from unimoe_runtime.hardware.targets import find_target
from unimoe_tools.parity.bundles import language_model_bytes
from unimoe_tools.parity.teacher_forced import Divergence

QUANTIZED = "w4"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    config = tiny_config(hidden_size=64, routed_intermediate_size=64, codebook_size=32, num_routed_experts=2)
    export_bundle(write_random_checkpoint(folder / "checkpoint", config), folder / "bundle")
    return open_bundle(folder / "bundle")


@pytest.fixture(scope="module")
def samples(bundle: Bundle) -> list[Sample]:
    with ItemReader(bundle) as reader:
        return [reader.read(item) for item in read_data(None, bundle).items[:1]]


def plan_of(bundle: Bundle, scheme: Scheme, smoothing: dict[Linear, np.ndarray] | None = None) -> QuantizationPlan:
    return QuantizationPlan(
        engine=Engine.ONNXRUNTIME,
        linears=dict.fromkeys(linears(bundle.model), LinearPlan(scheme=scheme)),
        smoothing=smoothing or {},
    )


def smoothed_experts(bundle: Bundle) -> dict[Linear, np.ndarray]:
    """Powers of two on what every product of the layers' feed-forward part reads."""
    factors_K = np.exp2(np.arange(bundle.model.hidden_size) % 3).astype(np.float32)
    read = ("gate_up.weight", "shared.gate_up.weight")
    found = {linear: factors_K for linear in linears(bundle.model) if linear.weight in read}
    routers = {Linear(f"layers.{layer}.trunk", "router.weight"): factors_K for layer in range(bundle.model.num_layers)}
    return {**found, **routers}


def test_one_graph_alone_is_what_differs(bundle: Bundle, samples: list[Sample], tmp_path: Path) -> None:
    """Flavours share their smoothing, so that a float graph fits between quantized ones."""
    smoothing = smoothed_experts(bundle)
    schemes = {}
    for name, scheme in ((FLOAT, Scheme.FLOAT), (QUANTIZED, Scheme.W4)):
        write_quantized(bundle, tmp_path / name, plan_of(bundle, scheme, smoothing), {})
        schemes[name] = open_bundle(tmp_path / name)
    plain = Trial(MixedBackend({FLOAT: bundle}, FLOAT), samples)
    trial = Trial(MixedBackend(schemes, FLOAT), samples)
    for ours, theirs in zip(plain.reference, trial.reference, strict=True):
        np.testing.assert_allclose(ours.logits_BRKV, theirs.logits_BRKV, atol=1e-4)
        np.testing.assert_array_equal(ours.picked_LNE, theirs.picked_LNE)
    found = {each.graph: each for each in measure(trial, [QUANTIZED])}
    assert list(found) == list(language_model_graphs(bundle.model))
    # An expert never changes its own layer's routing, and the last layer's experts nobody's.
    assert found["layers.1.expert.0"].router_flips == found["head"].router_flips == 0
    assert all(each.loss > 0 for each in found.values())
    assert trial.loss({}) == 0 and trial.launched_LE().shape == (2, 3)
    together = trial.loss(dict.fromkeys(found, QUANTIZED))
    assert together > max(each.loss for each in found.values())


def sensitivity(graph: str, scheme: str, loss: float) -> Sensitivity:
    same = Divergence(
        num_tokens=1, max_logit_error=0.0, logit_error=0.0, kl_nats=loss, token_agreement=1.0, router_agreement=1.0,
        equal_sets=1.0,
    )  # fmt: skip
    return Sensitivity(graph=graph, scheme=scheme, divergence=same, router_flips=0)


def made_up_search() -> Search:
    """Graph a gains most by its first step, b only by float; c's middle scheme lies above the line."""
    losses = {"a": (9.0, 1.0), "b": (3.0, 2.9), "c": (2.0, 1.9)}
    found = [
        sensitivity(graph, scheme, loss)
        for graph, pair in losses.items()
        for scheme, loss in zip((QUANTIZED, "w8"), pair, strict=True)
    ]
    sizes = {QUANTIZED: 1.0, "w8": 2.0, FLOAT: 4.0}
    costs = {(graph, scheme): size for graph in losses for scheme, size in sizes.items()}
    return Search(list(losses), FLOAT, found, costs, costs, by_latency=False)


def test_the_line_mends_what_gains_most() -> None:
    search = made_up_search()
    line = [search.choice(moves) for moves in range(len(search) + 1)]
    assert line[0] == dict.fromkeys("abc", QUANTIZED)
    assert [{graph: name for graph, name in choice.items() if name != QUANTIZED} for choice in line[1:]] == [
        {"a": "w8"}, {"a": "w8", "b": FLOAT}, {"a": "w8", "b": FLOAT, "c": FLOAT}, dict.fromkeys("abc", FLOAT),
    ]  # fmt: skip
    losses = [search.point(choice).predicted_loss for choice in line]
    assert losses == sorted(losses, reverse=True) and losses[-1] == 0


def test_limits() -> None:
    search = made_up_search()
    # 7 bytes: a's first step (4), then b's (7); nothing is left for c.
    assert search.most_faithful(MixtureLimits(max_bytes=7)) == {"a": "w8", "b": FLOAT, "c": QUANTIZED}
    # With 6 b does not fit any more, nor c: what does not fit is passed over, not the end.
    assert search.most_faithful(MixtureLimits(max_bytes=6)) == {"a": FLOAT, "b": QUANTIZED, "c": QUANTIZED}
    measured = lambda choice: search.point(choice).predicted_loss
    assert search.smallest(MixtureLimits(max_loss=3.5), measured) == {"a": "w8", "b": FLOAT, "c": QUANTIZED}
    assert search.smallest(MixtureLimits(max_loss=0.0), measured) == dict.fromkeys("abc", FLOAT)
    with pytest.raises(CalibrationError, match="smallest mixture takes 3 bytes"):
        search.most_faithful(MixtureLimits(max_latency_ms=2.0))
    with pytest.raises(CalibrationError, match=r"a loss of 3\.5 takes 7 bytes"):
        search.smallest(MixtureLimits(max_loss=3.5, max_bytes=5), measured)


def mixed(
    bundle: Bundle, samples: list[Sample], folder: Path, limits: MixtureLimits, target: str
) -> tuple[Bundle, Mixture]:
    plan, where = plan_of(bundle, Scheme.W4), find_target(target)
    with open_formats(bundle, plan, samples, where, folder) as formats:
        sensitivities = measure(formats.trial, formats.quantized)
        plan, mixture = mix_precisions(formats, plan, limits, sensitivities, where)
    write_quantized(bundle, folder / "mixed", plan, {"mixture": mixture.record()})
    return open_bundle(folder / "mixed"), mixture


@pytest.mark.parametrize("target", ["cpu", "rtx-2080"])
def test_a_bundle_within_its_bytes(bundle: Bundle, samples: list[Sample], tmp_path: Path, target: str) -> None:
    most = 160_000
    written, mixture = mixed(bundle, samples, tmp_path, MixtureLimits(max_bytes=most), target)
    assert mixture.curve[0].num_bytes < language_model_bytes(written) == mixture.point.num_bytes <= most
    assert mixture.curve[0].loss > mixture.point.loss > mixture.curve[-1].loss == 0
    assert len({graph.precision for graph in written.graphs.values()}) > 1
    assert {found.scheme for found in mixture.sensitivities} == {"w4", "w8"}
    assert written.manifest["quantization"]["mixture"]["choice"] == mixture.choice
    assert [path.name for path in tmp_path.iterdir()] == ["mixed"], "nothing is left of the search"


def test_a_bundle_within_its_milliseconds(bundle: Bundle, samples: list[Sample], tmp_path: Path) -> None:
    """An estimate repeats: bytes ÷ bandwidth, experts by the share of steps in which they run."""
    target = find_target("rtx-2080")
    assert target.bandwidth_gb_per_s is not None
    whole_ms = language_model_bytes(bundle) / target.bandwidth_gb_per_s / 1e6
    _, first = mixed(bundle, samples, tmp_path / "first", MixtureLimits(max_latency_ms=0.5 * whole_ms), "rtx-2080")
    _, again = mixed(bundle, samples, tmp_path / "again", MixtureLimits(max_latency_ms=0.5 * whole_ms), "rtx-2080")
    assert first == again
    assert first.point.latency_ms <= 0.5 * whole_ms < first.curve[-1].latency_ms <= whole_ms
    with pytest.raises(CalibrationError, match="ms a step: raise the limit"):
        mixed(bundle, samples, tmp_path / "timed", MixtureLimits(max_latency_ms=1e-9), "cpu")


def test_a_bundle_within_its_loss(bundle: Bundle, samples: list[Sample], tmp_path: Path) -> None:
    _, mixture = mixed(bundle, samples, tmp_path, MixtureLimits(max_loss=1e-3), "cpu")
    assert 0 < mixture.point.loss <= 1e-3 < mixture.curve[0].loss
    draw_pareto(mixture, MixtureLimits(max_loss=1e-3, max_bytes=10**5), tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").read_bytes()[:4] == b"\x89PNG"
