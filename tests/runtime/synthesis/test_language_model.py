"""The dispatch loop over an exported bundle, against recorded vectors of the public model and against the oracle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.onnxruntime.backend import OnnxRuntimeBackend
from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import BackendError
from unimoe_runtime.files.safetensors_reader import TensorFile
from unimoe_runtime.model.generation import Prompt, collect_frames, generate
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_runtime.synthesis.prompt_pass import cache_capacity

VECTORS = Path(__file__).parents[2] / "vectors"
TOLERANCE: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-5}
PLACEHOLDER = 294


class Routing:
    """Collects each trunk's weights and logits, in the order of the calls."""

    def __init__(self) -> None:
        self.weights: list[np.ndarray] = []
        self.logits: list[np.ndarray] = []

    def __call__(self, layer: int, router_logits_NR: np.ndarray, weights_NE: np.ndarray) -> None:
        self.weights.append(weights_NE.copy())
        self.logits.append(router_logits_NR.copy())


@pytest.fixture(scope="module", params=["numpy", "onnxruntime"])
def backend(request: pytest.FixtureRequest, reference_bundle: Path) -> Iterator[Backend]:
    backend = open_backend(request.param, open_bundle(reference_bundle))
    yield backend
    backend.close()


def recorded_prompt(vectors: TensorFile, *, paired: bool = True) -> Prompt:
    mask_BT = vectors.raw("attention_mask").astype(bool)
    positions_BT = np.where(mask_BT, np.cumsum(mask_BT, axis=1) - 1, 1).astype(np.float32)
    codec = vectors.raw("codec_input_ids").copy() if "codec_input_ids" in vectors else None
    return Prompt(
        text_ids_BT=vectors.raw("input_ids").copy(),
        mask_BT=mask_BT,
        positions=np.broadcast_to(positions_BT, (3, *positions_BT.shape)),
        first_position_B=mask_BT.sum(axis=1).astype(np.float32),
        codec_ids_PK=codec,
        placeholder_id=None if codec is None else PLACEHOLDER,
        paired=paired,
    )


@pytest.mark.parametrize("name", ["lm_text_prompt", "lm_voice_prompt"])
def test_prefill_and_ten_steps(backend: Backend, name: str) -> None:
    vectors = TensorFile(VECTORS / f"{name}.safetensors")
    prompt, routing = recorded_prompt(vectors), Routing()
    model = BundleModel(backend, observer=routing)
    model.prefill(prompt)
    real_N = prompt.mask_BT.reshape(-1)
    expected = vectors.float32("prefill.codec_logits").reshape(-1, 4, 1027)[real_N]
    np.testing.assert_allclose(model.logits(np.flatnonzero(real_N)), expected, **TOLERANCE)
    for layer in range(3):
        picked = vectors.raw(f"prefill.expert_mask.{layer}")[real_N, :8] > 0
        np.testing.assert_array_equal(routing.weights[layer][real_N, :8] > 0, picked)
        np.testing.assert_allclose(
            routing.logits[layer][real_N], vectors.float32(f"prefill.router_logits.{layer}")[real_N], **TOLERANCE
        )
        assert not routing.weights[layer][~real_N].any(), "padding launches nothing"
    tokens = vectors.raw("decode.tokens")
    for step in range(len(tokens)):
        routing.weights.clear()
        logits_BKV = model.step(tokens[step, :, 0], vectors.float32("decode.position_ids")[step, :, 0])
        np.testing.assert_allclose(logits_BKV, vectors.float32("decode.codec_logits")[step, :, 0], **TOLERANCE)
        for layer in range(3):
            expected = vectors.float32("decode.global_weight")[step, layer, :, :9]
            np.testing.assert_allclose(routing.weights[layer], expected, **TOLERANCE)
            np.testing.assert_array_equal(
                routing.weights[layer] > 0, vectors.raw("decode.expert_mask")[step, layer, :, :9] > 0
            )


@pytest.mark.parametrize("name", ["text_cfg0", "text_cfg3", "text_cfg3_eos", "voice_cfg0", "voice_cfg3"])
def test_generates_the_recorded_codes(backend: Backend, name: str, reference_checkpoint: Path) -> None:
    vectors = TensorFile(VECTORS / f"generate_{name}.safetensors")
    source = vectors
    if name.startswith("voice") and "codec_input_ids" not in vectors:
        source = TensorFile(VECTORS / "lm_voice_prompt.safetensors")
    facts = json.loads((VECTORS / "facts.json").read_text())["generate"][name]["params"]
    sampling = SamplingConfig(
        guidance_scale=facts["cfg_scale"],
        temperature=0.0,
        top_k=facts["cfg_filter_top_k"],
        top_p=facts["top_p"],
        eos_factor=facts["eos_prob_mul_factor"],
        min_steps=facts["min_tokens"],
        max_steps=facts["max_tokens"],
    )
    steps = list(generate(BundleModel(backend), recorded_prompt(source), backend.bundle.model, sampling))
    lengths = vectors.raw("lengths")
    recorded = vectors.raw("generated_codes")
    for utterance, length in enumerate(lengths):
        rows = np.stack([step.codes_UK[utterance] for step in steps])[: length + 4]
        np.testing.assert_array_equal(rows, recorded[utterance, : length + 4])
    for utterance, frames in enumerate(collect_frames(steps)):
        np.testing.assert_array_equal(frames, vectors.raw(f"reverted_codes.{utterance}")[: len(frames)])
        assert len(frames) == lengths[utterance]


def random_bundle(folder: Path, **changes: object) -> Path:
    export_bundle(write_random_checkpoint(folder / "checkpoint", tiny_config(**changes)), folder / "bundle")
    return folder / "bundle"


VARIANTS: dict[str, dict[str, Any]] = {
    "probability": {},
    "top_k": {"selection": "top_k", "top_k": 2},
    "sparsemixer": {"weighting": "sparsemixer", "num_shared_experts": 2},
    "no null": {"num_null_experts": 0},
    "three null": {"num_null_experts": 3},
    "no shared": {"num_shared_experts": 0},
    "no routed": {"num_routed_experts": 0},
    "dense": {"num_routed_experts": 0, "num_null_experts": 0},
    "no bias": {"qkv_bias": False},
    "one layer": {"num_layers": 1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_onnxruntime_equals_the_oracle(variant: str, tmp_path: Path) -> None:
    check_against_oracle(random_bundle(tmp_path, **VARIANTS[variant]), num_steps=10)


def test_cache_grows_as_it_fills(tmp_path: Path) -> None:
    check_against_oracle(random_bundle(tmp_path), num_steps=2 * cache_capacity(1))


def check_against_oracle(path: Path, num_steps: int) -> None:
    """A prompt of unequal rows, then steps."""
    bundle = open_bundle(path)
    prompt = Prompt.from_rows([[1, 2, 3], [4, 5, 6, 7, 8]], paired=True)
    rng = np.random.default_rng(0)
    models = [BundleModel(open_backend(name, bundle)) for name in ("numpy", "onnxruntime")]
    for model in models:
        model.prefill(prompt)
    for index in range(num_steps):
        codes_BK = rng.integers(bundle.model.codebook_size, size=(2, 2))
        oracle, found = (model.step(codes_BK, prompt.first_position_B + np.float32(index)) for model in models)
        np.testing.assert_allclose(found, oracle, **TOLERANCE)
    assert models[0].statistics == models[1].statistics
    assert models[1].statistics.steps == num_steps


def test_same_seed_same_codes_and_sessions_are_reusable(tmp_path: Path) -> None:
    backend = open_backend("onnxruntime", open_bundle(random_bundle(tmp_path)))
    prompt = Prompt.from_rows([[1], [1, 2, 3]], paired=True)
    sampling = SamplingConfig(min_steps=20, max_steps=40, top_k=None)
    model = BundleModel(backend)
    config = backend.bundle.model
    first, again, other = (
        collect_frames(generate(model, prompt, config, sampling, seed=seed))[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_null_only_layer_launches_nothing(tmp_path: Path) -> None:
    """Two null experts with opposite router rows: each token picks one of them, so no expert is ever loaded."""
    folder = write_random_checkpoint(tmp_path / "checkpoint", tiny_config(num_null_experts=2))
    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        if "router" in name:
            tensors[name][4:] = 1000 * np.array([[1], [-1]]) * tensors[name][4]
    save_file(tensors, folder / "model.safetensors")
    export_bundle(folder, tmp_path / "bundle")
    backend = OnnxRuntimeBackend(open_bundle(tmp_path / "bundle"))
    model = BundleModel(backend)
    model.prefill(Prompt.from_rows([[1, 2], [3]]))
    model.step(np.zeros((2, 2), np.int64), np.zeros(2, np.float32))
    assert model.statistics.launched == 0
    assert model.statistics.null_share == 1.0
    assert backend.loaded() == ["layers.0.trunk", "layers.1.trunk", "head"]


def test_errors_are_one_line(tmp_path: Path) -> None:
    bundle = open_bundle(random_bundle(tmp_path))
    open_backend("onnxruntime", bundle)  # the pool is set now, with a number of threads other than 63
    for action in (
        lambda: open_backend("abacus", bundle),
        lambda: open_backend("onnxruntime", bundle, providers=["AbacusExecutionProvider"]),
        lambda: open_backend("onnxruntime", bundle, threads=63),
        lambda: open_backend("numpy", bundle).run("codec_decoder", {}),
    ):
        with pytest.raises(BackendError) as caught:
            action()
        assert "\n" not in str(caught.value)
