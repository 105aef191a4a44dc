"""Quantization is reproducible byte for byte, and refuses a quantized bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_calibration.schemes import Engine, LinearPlan, QuantizationPlan, Scheme
from unimoe_calibration.statistics import linears
from unimoe_calibration.writing import write_quantized
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.errors import BundleError

RANGE = 6.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("calibration")
    config = tiny_config(
        hidden_size=64, head_dim=16, routed_intermediate_size=96, shared_intermediate_size=64, num_layers=1,
        qkv_bias=True,
    )  # fmt: skip
    write_random_checkpoint(folder / "checkpoint", config)
    export_bundle(folder / "checkpoint", folder / "bundle")
    return open_bundle(folder / "bundle")


def plan_of(
    bundle: Bundle, scheme: Scheme, engine: Engine = Engine.ONNXRUNTIME, per_row: bool = False
) -> QuantizationPlan:
    one = LinearPlan(scheme=scheme, input_range=RANGE if scheme.quantizes_inputs else None)
    plans = dict.fromkeys(linears(bundle.model), one)
    if per_row:
        after_swiglu = [linear for linear in plans if linear.weight in ("down.weight", "shared.down.weight")]
        plans.update(dict.fromkeys(after_swiglu, LinearPlan(scheme=scheme, per_row=True)))
    return QuantizationPlan(engine=engine, linears=plans)


def test_the_same_plan_gives_the_same_bytes_and_a_record(bundle: Bundle, tmp_path: Path) -> None:
    plan = plan_of(bundle, Scheme.W8A8)
    for name in ("one", "two"):
        write_quantized(bundle, tmp_path / name, plan, {"target": "cpu"})
    for file in sorted(path for path in (tmp_path / "one").rglob("*") if path.is_file()):
        assert file.read_bytes() == (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes()
    assert json.loads((tmp_path / "one" / "manifest.json").read_text())["quantization"] == {"target": "cpu"}


def test_a_quantized_bundle_is_not_quantized_again(bundle: Bundle, tmp_path: Path) -> None:
    write_quantized(bundle, tmp_path / "out", plan_of(bundle, Scheme.W8), {})
    with pytest.raises(BundleError, match="quantized already"):
        write_quantized(open_bundle(tmp_path / "out"), tmp_path / "again", plan_of(bundle, Scheme.W8), {})
