"""Sample requests of a bundle without a front end are guided pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_calibration.schemes import Engine, LinearPlan, QuantizationPlan, Scheme
from unimoe_calibration.statistics import linears
from unimoe_calibration.writing import write_quantized
from unimoe_export.exporter import export_bundle
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.model.generation import Prompt
from unimoe_tools.parity.sample_requests import standard_requests


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random model as "float", "w8" and "w4" bundles."""
    folder = tmp_path_factory.mktemp("bundles")
    config = tiny_config(hidden_size=64, routed_intermediate_size=32, codebook_size=32)
    export_bundle(write_random_checkpoint(folder / "checkpoint", config), folder / "float")
    for scheme in (Scheme.W8, Scheme.W4):
        plan = {linear: LinearPlan(scheme=scheme) for linear in linears(config)}
        write_quantized(
            open_bundle(folder / "float"),
            folder / scheme,
            QuantizationPlan(engine=Engine.ONNXRUNTIME, linears=plan),
            {},
        )
    return {name: folder / name for name in ("float", "w8", "w4")}


def test_requests_without_a_front_end_are_pairs(bundles: dict[str, Path]) -> None:
    requests = standard_requests(open_bundle(bundles["float"]))
    assert len(requests) == 4 and all(
        isinstance(request.prompt, Prompt) and request.prompt.paired for request in requests
    )
