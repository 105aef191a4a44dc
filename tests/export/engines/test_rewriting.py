"""The shapes of a trunk's caches in an engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from tests.engines import one_layer, random_bundle
from unimoe_export.checking import random_inputs
from unimoe_export.engines.rewriting import lift_caches, lifted_shape
from unimoe_runtime.backends.onnxruntime.sessions import open_session


def test_lifted_caches_hold_the_same(tmp_path: Path) -> None:
    """[B, S, X] becomes [B, 1, S, X], and nothing else changes."""
    bundle = random_bundle(tmp_path, one_layer())
    path = bundle.path / bundle.graphs["layers.0.trunk"].file
    inputs = random_inputs("layers.0.trunk", bundle.model, 0)
    expected = open_session(path)
    names = [output.name for output in expected.get_outputs()]
    proto = onnx.load(path, load_external_data=False)
    lift_caches(proto)
    lifted = open_session(path, content=proto.SerializeToString())
    given = {name: value.reshape(lifted_shape(name, value.shape)) for name, value in inputs.items()}
    assert given["key_cache_BSX"].ndim == 4
    for name, found, wanted in zip(names, lifted.run(names, given), expected.run(names, inputs), strict=True):
        np.testing.assert_array_equal(found.reshape(wanted.shape), wanted, name)
    again = onnx.ModelProto()
    again.CopyFrom(proto)
    lift_caches(again)
    assert again == proto
