"""A model's bytes equal those of the files that export and calibration write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_calibration.schemes import Engine, Scheme
from unimoe_calibration.weights import quantize_weight
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.reader import language_model_graphs, open_bundle
from unimoe_runtime.hardware.targets import find_target
from unimoe_tools.planning.weights import graph_bytes, model_bytes, plan_precisions, stored_bytes, stored_precision


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_bytes_of_graphs_are_those_of_the_files(tmp_path: Path, precision: str) -> None:
    export_bundle(write_random_checkpoint(tmp_path / "c", tiny_config()), tmp_path / "b", precision=precision)
    bundle = open_bundle(tmp_path / "b")
    for name in language_model_graphs(bundle.model):
        entries = bundle.weights(name).entries.values()
        assert graph_bytes(name, bundle.model, precision) == sum(entry.num_bytes for entry in entries)
    assert stored_precision(bundle) == precision
    assert stored_bytes(bundle).resident == pytest.approx(model_bytes(bundle.model, precision).resident, rel=0.5)


@pytest.mark.parametrize(
    ("scheme", "precision"),
    [(Scheme.W8A8, "int8"), (Scheme.W8, "int8-weights"), (Scheme.FP8, "fp8"), (Scheme.W4, "int4")],
)
def test_bytes_of_quantized_products_are_those_that_calibration_writes(scheme: Scheme, precision: str) -> None:
    config = tiny_config(hidden_size=64, routed_intermediate_size=128)
    written = 0
    for shape in ((64, 256), (128, 64)):
        weight = quantize_weight(np.ones(shape, np.float32), scheme, Engine.TENSORRT)
        written += weight.codes.values.nbytes + weight.scales.values.nbytes
    assert graph_bytes("layers.0.expert.0", config, precision) == written


def test_a_plan_knows_the_precisions_of_calibration_in_its_order() -> None:
    assert plan_precisions(find_target("cpu")) == ["float32", "int8-weights", "int8", "int4"]
    assert plan_precisions(find_target("rtx-4090")) == [
        "float32", "bfloat16", "float16", "int8", "fp8", "int8-weights", "int4",
    ]  # fmt: skip
