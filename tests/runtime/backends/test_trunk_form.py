"""Trunks of both forms: the inputs of a step, and that bundles of the first format give the same results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.random_checkpoint import tiny_config
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.protocol import StepInputs
from unimoe_runtime.backends.trunk_form import TrunkForm, capacity_of, plain_trunk_inputs, trunk_outputs_like
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.synthesis.language_model import BundleModel

FORMAT_1 = Path(__file__).parents[2] / "vectors" / "bundle_format_1"
CONFIG = tiny_config(num_heads=6, num_kv_heads=2, head_dim=8)


def step(rows: int, length: int, capacity: int) -> StepInputs:
    random = np.random.default_rng(0)
    angles = np.tile(random.uniform(0, 6, (rows, length, 4)), 2).astype(np.float32)
    return StepInputs(
        hidden_BTC=random.standard_normal((rows, length, CONFIG.hidden_size), dtype=np.float32),
        cos_BTD=np.cos(angles),
        sin_BTD=np.sin(angles),
        mask_B1TS=random.random((rows, 1, length, capacity)) < 0.5,
        write_index_B=np.arange(rows, dtype=np.int64),
    )


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_bundles_of_the_first_format_give_the_logits_that_they_gave(kind: str) -> None:
    """expected.safetensors holds the results of the release that wrote the bundles.

    Another machine may sum in another order, and an int8 input between two codes may then round to either."""
    backend = open_backend("onnxruntime", open_bundle(FORMAT_1 / kind))
    model = BundleModel(backend)
    prompt = Prompt.from_rows([np.arange(5) % 20, np.arange(7) * 3 % 20], paired=True)
    model.prefill(prompt)
    codebooks = backend.bundle.model.num_codebooks
    found = [
        model.step(np.full((2, codebooks), index), prompt.first_position_B + np.float32(index)).copy()
        for index in range(4)
    ]
    expected = load_file(FORMAT_1 / "expected.safetensors")[kind]
    tolerance = 1e-4 if kind == "float32" else 2e-2
    np.testing.assert_allclose(np.stack(found), expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_the_first_format_has_an_oracle() -> None:
    bundle = open_bundle(FORMAT_1 / "float32")
    prompt = Prompt.from_rows([np.arange(5) % 20, np.arange(7) * 3 % 20], paired=True)
    logits = []
    for name in ("numpy", "onnxruntime"):
        model = BundleModel(open_backend(name, bundle))
        model.prefill(prompt)
        logits.append(model.logits(np.arange(14)))
    np.testing.assert_allclose(logits[0], logits[1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("lean", [False, True])
def test_a_form_fills_its_arrays_and_converts_back(lean: bool) -> None:
    form, given = TrunkForm(model=CONFIG, lean=lean), step(2, 3, 10)
    arrays = form.step_inputs(given)
    assert {name: (array.shape, array.dtype) for name, array in arrays.items()} == {
        name: (shape, np.dtype(dtype)) for name, (shape, dtype) in form.step_shapes(2, 3, 10).items()
    }
    cache = np.random.default_rng(1).standard_normal(form.graph_shape(form.cache_shape(2, 10)), dtype=np.float32)
    hidden = form.hidden_inputs(given.hidden_BTC, given.hidden_BTC.reshape(6, -1))
    inputs = {**hidden, **arrays, **dict.fromkeys(form.caches, cache)}
    assert capacity_of(inputs) == 10
    plain = plain_trunk_inputs(inputs, CONFIG)
    for name in ("cos_BTD", "sin_BTD", "mask_B1TS", "write_index_B"):
        np.testing.assert_array_equal(plain[name], getattr(given, name))
    assert plain["key_cache_BHSD"].shape == (2, 2, 10, 8)
    outputs = {f"new_{name}": plain[name] for name in ("key_cache_BHSD", "value_cache_BHSD")}
    back = trunk_outputs_like(outputs, inputs)
    assert list(back) == [f"new_{name}" for name in form.caches]
    for array in back.values():
        np.testing.assert_array_equal(array, cache)


@pytest.mark.parametrize("lean", [False, True])
def test_part_of_a_pass_over_caches_of_another_capacity(lean: bool) -> None:
    """A pass may be written in pieces, and a device's caches may have more slots than the mask."""
    form, given = TrunkForm(model=CONFIG, lean=lean), step(2, 5, 10)
    whole = form.step_inputs(given)
    shapes = form.step_shapes(2, 2, 16)
    arrays = {name: np.ones(shape, dtype) for name, (shape, dtype) in shapes.items()}
    form.write(arrays, given, start=3)
    queries = 3 if lean else 1
    np.testing.assert_array_equal(arrays[form.mask][..., :10], whole[form.mask][:, :, 3 * queries :])
    assert not arrays[form.mask][..., 10:].any()
    np.testing.assert_array_equal(arrays["write_index_B"], given.write_index_B + 3)
    for name in set(arrays) - {form.mask, "write_index_B"}:
        np.testing.assert_array_equal(arrays[name], whole[name][:, 3:])


def test_query_heads_that_share_a_key_head_are_rows_one_after_another() -> None:
    form, given = TrunkForm(model=CONFIG, lean=True), step(1, 2, 4)
    mask_B1QS = form.step_inputs(given)["mask_B1QS"]
    np.testing.assert_array_equal(mask_B1QS[0, 0], np.repeat(given.mask_B1TS[0, 0], 3, axis=0))
