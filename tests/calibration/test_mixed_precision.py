"""Bundles within limits of bytes, milliseconds and loss."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.quantized import one_scheme
from unimoe_calibration.data import Sample
from unimoe_calibration.mixed_precision import mix_precisions, open_formats
from unimoe_calibration.pareto import draw_pareto
from unimoe_calibration.schemes import Scheme
from unimoe_calibration.search import Mixture, MixtureLimits
from unimoe_calibration.sensitivity import measure
from unimoe_calibration.writing import write_quantized
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.errors import CalibrationError
from unimoe_runtime.hardware.targets import find_target
from unimoe_tools.parity.bundles import language_model_bytes


def mixed(
    bundle: Bundle, samples: list[Sample], folder: Path, limits: MixtureLimits, target: str
) -> tuple[Bundle, Mixture]:
    plan, where = one_scheme(bundle, Scheme.W4), find_target(target)
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
def test_a_bundle_within_its_bytes(
    two_expert_bundle: Bundle, two_expert_samples: list[Sample], tmp_path: Path, target: str
) -> None:
    most = 160_000
    written, mixture = mixed(two_expert_bundle, two_expert_samples, tmp_path, MixtureLimits(max_bytes=most), target)
    assert mixture.curve[0].num_bytes < language_model_bytes(written) == mixture.point.num_bytes <= most
    assert known(mixture.curve[0].loss) > known(mixture.point.loss) > known(mixture.curve[-1].loss) == 0
    assert len({graph.precision for graph in written.graphs.values()}) > 1
    assert {found.scheme for found in mixture.sensitivities} == {"w4", "w8"}
    assert written.manifest["quantization"]["mixture"]["choice"] == mixture.choice
    assert [path.name for path in tmp_path.iterdir()] == ["mixed"], "nothing is left of the search"


def test_a_bundle_within_its_milliseconds(
    two_expert_bundle: Bundle, two_expert_samples: list[Sample], tmp_path: Path
) -> None:
    """The estimate is reproducible: bytes ÷ bandwidth, experts weighted by the share of steps in which they run."""
    target = find_target("rtx-2080")
    assert target.bandwidth_gb_per_s is not None
    whole_ms = language_model_bytes(two_expert_bundle) / target.bandwidth_gb_per_s / 1e6
    limits = MixtureLimits(max_latency_ms=0.5 * whole_ms)
    (_, first), (_, again) = (
        mixed(two_expert_bundle, two_expert_samples, tmp_path / name, limits, "rtx-2080") for name in ("first", "again")
    )
    assert first == again
    assert known(first.point.latency_ms) <= 0.5 * whole_ms < known(first.curve[-1].latency_ms) <= whole_ms
    with pytest.raises(CalibrationError, match="ms a step: raise the limit"):
        mixed(two_expert_bundle, two_expert_samples, tmp_path / "timed", MixtureLimits(max_latency_ms=1e-9), "cpu")


def test_a_bundle_within_its_loss(two_expert_bundle: Bundle, two_expert_samples: list[Sample], tmp_path: Path) -> None:
    _, mixture = mixed(two_expert_bundle, two_expert_samples, tmp_path, MixtureLimits(max_loss=1e-3), "cpu")
    assert 0 < known(mixture.point.loss) <= 1e-3 < known(mixture.curve[0].loss)
    draw_pareto(mixture, MixtureLimits(max_loss=1e-3, max_bytes=10**5), tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").read_bytes()[:4] == b"\x89PNG"
