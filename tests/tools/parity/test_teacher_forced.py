"""Divergence under teacher forcing, against a direct computation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_tools.parity.sample_requests import standard_requests
from unimoe_tools.parity.teacher_forced import diverge, read_forced, teacher_force


def test_divergence_by_hand(bundles_by_precision: dict[str, Path]) -> None:
    """The mean over the drawn codes alone, with the guidance of the draw."""
    backends = [open_backend("onnxruntime", open_bundle(bundles_by_precision[name])) for name in ("float", "w4")]
    config = backends[0].bundle.model
    request = standard_requests(backends[0].bundle)[0]
    codes_TK = np.random.default_rng(0).integers(config.codebook_size, size=(7, 2))
    item = teacher_force(request.prompt, codes_TK, replace(request.sampling, guidance_scale=2.0), config)
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


def test_a_long_item_is_read_in_one_pass(bundles_by_precision: dict[str, Path]) -> None:
    """Every token's routing and logits, however long the item is."""
    backend = open_backend("onnxruntime", open_bundle(bundles_by_precision["float"]))
    config = backend.bundle.model
    request = standard_requests(backend.bundle)[0]
    codes_TK = np.random.default_rng(0).integers(config.codebook_size, size=(300, 2))
    item = teacher_force(request.prompt, codes_TK, request.sampling, config)
    found = read_forced(backend, item)
    assert found.picked_LNE.shape[1] == item.prompt.mask_BT.sum() > 600
    assert found.logits_BRKV.shape[:2] == (2, item.num_rows)
