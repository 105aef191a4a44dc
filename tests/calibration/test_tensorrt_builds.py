"""Graphs quantized for a GPU build in TensorRT-RTX, if installed, and multiply in their stated types."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines import compile_for, one_layer, quantized, random_bundle
from unimoe_calibration.schemes import Scheme
from unimoe_runtime.bundle.reader import Bundle

pytest.importorskip("tensorrt_rtx", exc_type=ImportError)

PRODUCTS = {"layers.0.trunk": 4, "layers.0.expert.0": 2, "head": 1}
TYPES = {Scheme.W8A8: "Int8 x Int8", Scheme.FP8: "FP8 x FP8", Scheme.W8: "Float x Int8", Scheme.W4: "Float x Int4"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return random_bundle(tmp_path_factory.mktemp("tensorrt"), one_layer())


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "per_row"), [*((scheme, False) for scheme in TYPES), (Scheme.W8A8, True)])
def test_quantized_graphs_build_and_keep_their_types(
    bundle: Bundle, scheme: Scheme, per_row: bool, tmp_path: Path
) -> None:
    narrow = quantized(bundle, tmp_path / "out", scheme, per_row=per_row)
    for graph, count in PRODUCTS.items():
        for gpu in ((8, 6), (8, 9), (12, 0)):
            tried = compile_for(narrow, graph, gpu)
            if scheme == Scheme.FP8 and gpu == (8, 6):
                assert tried.problem is not None and "fp8" in tried.problem
                continue
            assert tried.problem is None and not tried.fallbacks
            assert tried.log.products.count(TYPES[scheme]) == count
            # The router alone multiplies in float32.
            assert len(tried.log.products) - count == (graph == "layers.0.trunk")
