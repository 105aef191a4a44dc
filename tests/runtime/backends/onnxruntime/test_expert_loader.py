"""Experts under a memory budget in ONNX Runtime: the results without a budget, to the bit, for each way to load."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.quantized import plan_of
from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_calibration.schemes import Scheme
from unimoe_calibration.writing import write_quantized
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.onnxruntime.backend import OnnxRuntimeBackend
from unimoe_runtime.backends.onnxruntime.expert_loader import Loader, MappedExpert, SessionExpert
from unimoe_runtime.backends.onnxruntime.transposed_expert import TransposedExpert
from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.errors import BackendError, BundleError
from unimoe_runtime.expert_cache import cache
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.synthesis.language_model import BundleModel


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with sums of more than 256 products: the last bits depend on a kernel's blocking."""
    folder = tmp_path_factory.mktemp("budget")
    config = tiny_config(hidden_size=320, routed_intermediate_size=288, num_layers=3)
    export_bundle(write_random_checkpoint(folder / "checkpoint", config), folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module", params=["float", "w8a8", "w8"])
def bundle(request: pytest.FixtureRequest, floats: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scheme = Scheme(request.param)
    if scheme == Scheme.FLOAT:
        return floats
    source = open_bundle(floats)
    path = tmp_path_factory.mktemp("quantized") / "bundle"
    write_quantized(source, path, plan_of(source, scheme), {})
    return path


def decoded(backend: Backend, seed: int = 0, steps: int = 12) -> np.ndarray:
    """Logits of a prompt's last tokens and of a few steps."""
    random = np.random.default_rng(seed)
    prompt = Prompt.from_rows([[1, 2, 3], [4, 5, 6, 7, 8]], paired=True)
    model = BundleModel(backend)
    model.prefill(prompt)
    logits = [model.logits(np.array([4, 9]))]
    for index in range(steps):
        codes_BK = random.integers(backend.bundle.model.codebook_size, size=(2, 2))
        logits.append(model.step(codes_BK, prompt.first_position_B + np.float32(index)).copy())
    return np.stack(logits)


def opened(path: Path, experts: float) -> OnnxRuntimeBackend:
    """A backend with room for a given number of experts."""
    one = OnnxRuntimeBackend(open_bundle(path), memory_budget_bytes=0).experts
    assert one is not None
    return OnnxRuntimeBackend(open_bundle(path), memory_budget_bytes=int(experts * one.bytes_of[0, 0]))


@pytest.mark.parametrize("experts", [0, 2.5, 5, 100])
def test_the_same_bits_with_any_budget(bundle: Path, experts: float, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = decoded(open_backend("onnxruntime", open_bundle(bundle)))
    for ahead in (False, True):
        monkeypatch.setattr(cache, "PREFETCH_MIN_STALL_S", 0.0)  # prefetch every missing expert
        backend = opened(bundle, experts)
        assert backend.experts is not None
        backend.experts.prefetches = ahead
        np.testing.assert_array_equal(decoded(backend), expected)
        found = backend.residency()
        assert found is not None and backend.experts is not None
        assert found.uses and found.peak_bytes <= max(found.budget_bytes, backend.experts.bytes_of[0, 0])
        assert found.step_bytes_p95 > 0 and found.figures()["hit_rate"] == found.hit_rate
        if experts == 100:
            assert found.misses <= 12  # once each, including one that is being prefetched
        if ahead and experts:
            assert found.predicted
        backend.close()
        assert backend.loaded() == []


def test_each_precision_is_kept_in_its_way(bundle: Path) -> None:
    """int8 experts use the memory map, float ones are transposed, those with integer weights alone have a session."""
    backend = opened(bundle, 100)
    assert backend.experts is not None
    precision = open_bundle(bundle).graphs["layers.0.expert.0"].precision
    way = {"float32": TransposedExpert, "int8": MappedExpert}.get(precision, SessionExpert)
    assert {type(backend.experts.acquire((layer, expert))) for layer in range(3) for expert in range(4)} == {way}
    assert backend.experts.prefetches == (way is not SessionExpert)


@pytest.mark.parametrize(
    ("hidden", "inner", "precision"),
    [(48, 64, "float32"), (256, 256, "bfloat16"), (257, 300, "float32"), (640, 36, "float16")],
)
def test_turned_products_have_the_bits_of_a_session_of_its_own(
    hidden: int, inner: int, precision: str, tmp_path: Path
) -> None:
    config = tiny_config(hidden_size=hidden, routed_intermediate_size=inner, num_layers=1, num_routed_experts=1)
    export_bundle(write_random_checkpoint(tmp_path / "checkpoint", config), tmp_path / "bundle", precision=precision)
    loader = Loader(open_bundle(tmp_path / "bundle"), ["CPUExecutionProvider"])
    assert loader.shares(precision)
    turned, own = loader((0, 0)), loader.own("layers.0.expert.0")
    assert isinstance(turned, TransposedExpert)
    random = np.random.default_rng(0)
    for tokens in (1, 2, 3, 15, 33, 64, 65, 130):
        inputs = {
            "accumulator_NC": random.standard_normal((tokens, hidden), dtype=np.float32),
            "expert_input_NC": random.standard_normal((tokens, hidden), dtype=np.float32),
            "weight_N1": random.random((tokens, 1), dtype=np.float32) * (random.random((tokens, 1)) < 0.8),
        }
        expected = own.run(inputs)["new_accumulator_NC"]
        np.testing.assert_array_equal(turned.run(inputs)["new_accumulator_NC"], expected)


def test_several_threads_share_a_budget(bundle: Path) -> None:
    reference = open_backend("onnxruntime", open_bundle(bundle))
    expected = [decoded(reference, seed) for seed in range(3)]
    backend = opened(bundle, 2)
    with ThreadPoolExecutor(3) as pool:
        for seed, found in enumerate(pool.map(lambda seed: decoded(backend, seed), range(3))):
            np.testing.assert_array_equal(found, expected[seed])


def test_loading_all_loads_what_fits(floats: Path) -> None:
    backend = opened(floats, 3)
    backend.load()
    assert sum(".expert." in graph for graph in backend.loaded()) == 3
    assert sum(".trunk" in graph for graph in backend.loaded()) == 3


def test_a_damaged_expert_is_found_when_it_is_needed(floats: Path, tmp_path: Path) -> None:
    shutil.copytree(floats, tmp_path / "bundle")
    for path in (tmp_path / "bundle" / "layers" / "01").glob("expert_*.safetensors"):
        damaged = bytearray(path.read_bytes())
        damaged[-1] ^= 1
        path.write_bytes(damaged)
    with pytest.raises(BundleError, match="damaged"):
        decoded(opened(tmp_path / "bundle", 2))


def test_numpy_has_no_budget(floats: Path) -> None:
    with pytest.raises(BackendError, match="no memory budget"):
        open_backend("numpy", open_bundle(floats), memory_budget_bytes=1)
