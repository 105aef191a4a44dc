"""Each candidate differs from the bundle in the format of one graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.quantized import one_scheme
from unimoe_calibration.data import Sample
from unimoe_calibration.mixed_precision import FLOAT
from unimoe_calibration.mixing import MixedBackend
from unimoe_calibration.schemes import Scheme
from unimoe_calibration.sensitivity import Trial, measure
from unimoe_calibration.statistics import Linear, linears
from unimoe_calibration.writing import write_quantized
from unimoe_runtime.bundle.reader import Bundle, language_model_graphs, open_bundle

QUANTIZED = "w4"


def smoothed_experts(bundle: Bundle) -> dict[Linear, np.ndarray]:
    """Powers of two on the inputs of every product in the layers' feed-forward part."""
    factors_K = np.exp2(np.arange(bundle.model.hidden_size) % 3).astype(np.float32)
    read = ("gate_up.weight", "shared.gate_up.weight")
    found = {linear: factors_K for linear in linears(bundle.model) if linear.weight in read}
    routers = {Linear(f"layers.{layer}.trunk", "router.weight"): factors_K for layer in range(bundle.model.num_layers)}
    return {**found, **routers}


def test_one_graph_alone_is_what_differs(
    two_expert_bundle: Bundle, two_expert_samples: list[Sample], tmp_path: Path
) -> None:
    """Precisions share their smoothing, so that a float graph fits between quantized ones."""
    smoothing = smoothed_experts(two_expert_bundle)
    schemes = {}
    for name, scheme in ((FLOAT, Scheme.FLOAT), (QUANTIZED, Scheme.W4)):
        write_quantized(two_expert_bundle, tmp_path / name, one_scheme(two_expert_bundle, scheme, smoothing), {})
        schemes[name] = open_bundle(tmp_path / name)
    plain = Trial(MixedBackend({FLOAT: two_expert_bundle}, FLOAT), two_expert_samples)
    trial = Trial(MixedBackend(schemes, FLOAT), two_expert_samples)
    for ours, theirs in zip(plain.reference, trial.reference, strict=True):
        np.testing.assert_allclose(ours.logits_BRKV, theirs.logits_BRKV, atol=1e-4)
        np.testing.assert_array_equal(ours.picked_LNE, theirs.picked_LNE)
    found = {each.graph: each for each in measure(trial, [QUANTIZED])}
    assert list(found) == list(language_model_graphs(two_expert_bundle.model))
    # An expert never changes the routing of its own layer; the last layer's experts change none.
    assert found["layers.1.expert.0"].router_flips == found["head"].router_flips == 0
    assert all(each.loss > 0 for each in found.values())
    assert trial.loss({}) == 0 and trial.launched_LE().shape == (2, 3)
    together = trial.loss(dict.fromkeys(found, QUANTIZED))
    assert together > max(each.loss for each in found.values())
