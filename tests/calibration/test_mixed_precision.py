"""Bundles within limits of bytes, milliseconds and loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_calibration.data import ItemReader, Sample, read_data
from unimoe_calibration.mixed_precision import mix_precisions, open_formats
from unimoe_calibration.pareto import draw_pareto
from unimoe_calibration.schemes import Engine, LinearPlan, QuantizationPlan, Scheme
from unimoe_calibration.search import Mixture, MixtureLimits
from unimoe_calibration.sensitivity import measure
from unimoe_calibration.statistics import Linear, linears
from unimoe_calibration.writing import write_quantized
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.errors import CalibrationError
from unimoe_runtime.hardware.targets import find_target
from unimoe_tools.parity.bundles import language_model_bytes


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


def mixed(
    bundle: Bundle, samples: list[Sample], folder: Path, limits: MixtureLimits, target: str
) -> tuple[Bundle, Mixture]:
    plan, where = plan_of(bundle, Scheme.W4), find_target(target)
    with open_formats(bundle, plan, samples, where, folder) as formats:
        sensitivities = measure(formats.trial, formats.quantized)
        plan, mixture = mix_precisions(formats, plan, limits, sensitivities, where)
    write_quantized(bundle, folder / "mixed", plan, {"mixture": mixture.record()})
    return open_bundle(folder / "mixed"), mixture


def known(figure: float | None) -> float:
    """A figure that the search must report."""
    assert figure is not None
    return figure


@pytest.mark.parametrize("target", ["cpu", "rtx-2080"])
def test_a_bundle_within_its_bytes(bundle: Bundle, samples: list[Sample], tmp_path: Path, target: str) -> None:
    most = 160_000
    written, mixture = mixed(bundle, samples, tmp_path, MixtureLimits(max_bytes=most), target)
    assert mixture.curve[0].num_bytes < language_model_bytes(written) == mixture.point.num_bytes <= most
    assert known(mixture.curve[0].loss) > known(mixture.point.loss) > known(mixture.curve[-1].loss) == 0
    assert len({graph.precision for graph in written.graphs.values()}) > 1
    assert {found.scheme for found in mixture.sensitivities} == {"w4", "w8"}
    assert written.manifest["quantization"]["mixture"]["choice"] == mixture.choice
    assert [path.name for path in tmp_path.iterdir()] == ["mixed"], "nothing is left of the search"


def test_a_bundle_within_its_milliseconds(bundle: Bundle, samples: list[Sample], tmp_path: Path) -> None:
    """The estimate is reproducible: bytes ÷ bandwidth, experts weighted by the share of steps in which they run."""
    target = find_target("rtx-2080")
    assert target.bandwidth_gb_per_s is not None
    whole_ms = language_model_bytes(bundle) / target.bandwidth_gb_per_s / 1e6
    _, first = mixed(bundle, samples, tmp_path / "first", MixtureLimits(max_latency_ms=0.5 * whole_ms), "rtx-2080")
    _, again = mixed(bundle, samples, tmp_path / "again", MixtureLimits(max_latency_ms=0.5 * whole_ms), "rtx-2080")
    assert first == again
    assert known(first.point.latency_ms) <= 0.5 * whole_ms < known(first.curve[-1].latency_ms) <= whole_ms
    with pytest.raises(CalibrationError, match="ms a step: raise the limit"):
        mixed(bundle, samples, tmp_path / "timed", MixtureLimits(max_latency_ms=1e-9), "cpu")


def test_a_bundle_within_its_loss(bundle: Bundle, samples: list[Sample], tmp_path: Path) -> None:
    _, mixture = mixed(bundle, samples, tmp_path, MixtureLimits(max_loss=1e-3), "cpu")
    assert 0 < known(mixture.point.loss) <= 1e-3 < known(mixture.curve[0].loss)
    draw_pareto(mixture, MixtureLimits(max_loss=1e-3, max_bytes=10**5), tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").read_bytes()[:4] == b"\x89PNG"
