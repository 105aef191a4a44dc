"""Comparing two bundles: equal ones are reported as equal, the error of quantized ones is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.errors import BundleError
from unimoe_tools.parity.bundles import compare_bundles
from unimoe_tools.parity.sample_requests import standard_requests


def test_a_bundle_judged_by_itself_is_equal(bundles_by_precision: dict[str, Path]) -> None:
    backend = open_backend("onnxruntime", open_bundle(bundles_by_precision["float"]))
    found = compare_bundles(backend, backend, standard_requests(backend.bundle), steps=30)
    assert found.forced.max_logit_error == found.forced.kl_nats == 0
    assert found.forced.router_agreement == found.forced.equal_sets == found.forced.token_agreement == 1
    assert found.first_differences == (None,) * 4 and found.equal_runs == found.size == 1
    assert found.spectral_db is None and found.step.ratio > 0


@pytest.mark.slow
def test_fewer_bits_lie_farther_away(bundles_by_precision: dict[str, Path]) -> None:
    reference = open_backend("onnxruntime", open_bundle(bundles_by_precision["float"]))
    requests = standard_requests(reference.bundle)
    w8, w4 = (
        compare_bundles(
            open_backend("onnxruntime", open_bundle(bundles_by_precision[name])), reference, requests, steps=30
        )
        for name in ("w8", "w4")
    )
    assert 0 < w8.forced.kl_nats < w4.forced.kl_nats
    assert 0 < w8.forced.logit_error < w4.forced.logit_error
    assert 1 > w8.forced.equal_sets > w4.forced.equal_sets
    assert w8.forced.router_agreement > 0.97
    assert w4.size < w8.size < 1


def test_another_model_is_refused(bundles_by_precision: dict[str, Path], reference_bundle: Path) -> None:
    backends = [
        open_backend("onnxruntime", open_bundle(path)) for path in (bundles_by_precision["w8"], reference_bundle)
    ]
    with pytest.raises(BundleError, match="are not the same model"):
        compare_bundles(backends[0], backends[1], standard_requests(backends[1].bundle), steps=5)
