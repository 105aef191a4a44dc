"""Judging a bundle by another: what is equal is called equal, what was quantized is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_calibration.schemes import Engine, LinearPlan, QuantizationPlan, Scheme
from unimoe_calibration.statistics import linears
from unimoe_calibration.writing import write_quantized
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.errors import BundleError
from unimoe_runtime.model.generation import Prompt
from unimoe_tools.parity.bundles import compare_bundles
from unimoe_tools.parity.sample_requests import standard_requests
from unimoe_tools.parity.teacher_forced import diverge, force, read_forced


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


def test_a_bundle_judged_by_itself_is_equal(bundles: dict[str, Path]) -> None:
    backend = open_backend("onnxruntime", open_bundle(bundles["float"]))
    found = compare_bundles(backend, backend, standard_requests(backend.bundle), steps=30)
    assert found.forced.max_logit_error == found.forced.kl_nats == 0
    assert found.forced.router_agreement == found.forced.equal_sets == found.forced.token_agreement == 1
    assert found.first_differences == (None,) * 4 and found.equal_runs == found.size == 1
    assert found.spectral_db is None and found.step.ratio > 0


def test_fewer_bits_lie_farther_away(bundles: dict[str, Path]) -> None:
    reference = open_backend("onnxruntime", open_bundle(bundles["float"]))
    requests = standard_requests(reference.bundle)
    w8, w4 = (
        compare_bundles(open_backend("onnxruntime", open_bundle(bundles[name])), reference, requests, steps=30)
        for name in ("w8", "w4")
    )
    assert 0 < w8.forced.kl_nats < w4.forced.kl_nats
    assert 0 < w8.forced.logit_error < w4.forced.logit_error
    assert 1 > w8.forced.equal_sets > w4.forced.equal_sets
    assert w8.forced.router_agreement > 0.97
    assert w4.size < w8.size < 1


def test_divergence_by_hand(bundles: dict[str, Path]) -> None:
    """The mean over the codes that were said alone, guided as they are drawn."""
    backends = [open_backend("onnxruntime", open_bundle(bundles[name])) for name in ("float", "w4")]
    config = backends[0].bundle.model
    request = standard_requests(backends[0].bundle)[0]
    codes_TK = np.random.default_rng(0).integers(config.codebook_size, size=(7, 2))
    item = force(request.prompt, codes_TK, replace(request.sampling, guidance_scale=2.0), config)
    first, second = (read_forced(backend, item) for backend in backends)
    assert first.is_frame_code_RK.tolist() == [[1, 0], *[[1, 1]] * 6, [0, 1]]
    total = 0.0
    for row, codebook in np.argwhere(first.is_frame_code_RK):
        p, q = (
            np.exp(3 * cond.astype(np.float64) - 2 * uncond)
            for uncond, cond in (
                found.logits_BRKV[:, row, codebook, : config.codebook_size] for found in (first, second)
            )
        )
        p, q = p / p.sum(), q / q.sum()
        total += float((p * np.log(p / q)).sum())
    found = diverge([first], [second])
    assert found.kl_nats == pytest.approx(total / first.is_frame_code_RK.sum(), rel=1e-4)
    assert found.num_tokens == 2 * (12 + 8)
    assert first.launched_LE().shape == (2, 5)


def test_another_model_is_refused(bundles: dict[str, Path], reference_bundle: Path) -> None:
    backends = [open_backend("onnxruntime", open_bundle(path)) for path in (bundles["w8"], reference_bundle)]
    with pytest.raises(BundleError, match="no version of"):
        compare_bundles(backends[0], backends[1], standard_requests(backends[1].bundle), steps=5)


def test_requests_without_a_front_end_are_pairs(bundles: dict[str, Path]) -> None:
    requests = standard_requests(open_bundle(bundles["float"]))
    assert len(requests) == 4 and all(
        isinstance(request.prompt, Prompt) and request.prompt.paired for request in requests
    )
