"""Graphs quantized for a GPU build in TensorRT-RTX, where it is installed, and multiply in the types they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_calibration.schemes import Engine, LinearPlan, QuantizationPlan, Scheme
from unimoe_calibration.statistics import linears
from unimoe_calibration.writing import write_quantized
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle import Bundle, open_bundle

pytest.importorskip("tensorrt_rtx", exc_type=ImportError)

from benchmarks.tensorrt_builds import build, usual_graphs

PRODUCTS = {"layers.0.trunk": 4, "layers.0.expert.0": 2, "head": 1}
TYPES = {Scheme.W8A8: "Int8 x Int8", Scheme.FP8: "FP8 x FP8", Scheme.W8: "Float x Int8", Scheme.W4: "Float x Int4"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("tensorrt")
    config = tiny_config(
        hidden_size=64, head_dim=32, num_heads=4, routed_intermediate_size=96, shared_intermediate_size=64,
        num_layers=1, codebook_size=61, qkv_bias=True,
    )  # fmt: skip
    write_random_checkpoint(folder / "checkpoint", config)
    export_bundle(folder / "checkpoint", folder / "bundle")
    return open_bundle(folder / "bundle")


@pytest.mark.parametrize(("scheme", "per_row"), [*((scheme, False) for scheme in TYPES), (Scheme.W8A8, True)])
def test_quantized_graphs_build_and_keep_their_types(
    bundle: Bundle, scheme: Scheme, per_row: bool, tmp_path: Path
) -> None:
    one = LinearPlan(scheme=scheme, input_range=6.0 if scheme.quantizes_inputs else None)
    after_swiglu = LinearPlan(scheme=scheme, per_row=True) if per_row else one
    plans = {
        linear: after_swiglu if linear.weight in ("down.weight", "shared.down.weight") else one
        for linear in linears(bundle.model)
    }
    write_quantized(bundle, tmp_path / "out", QuantizationPlan(engine=Engine.TENSORRT, linears=plans), {})
    quantized = open_bundle(tmp_path / "out")
    for graph in usual_graphs(quantized):
        for capability in (86, 89, 120):
            made = build(quantized, graph, capability)
            if scheme == Scheme.FP8 and capability == 86:
                assert made.problem is not None and "fp8" in made.problem
                continue
            assert made.problem is None
            assert made.products.count(TYPES[scheme]) == PRODUCTS[graph]
            # The router alone multiplies in float32.
            assert len(made.products) - PRODUCTS[graph] == (graph == "layers.0.trunk")
