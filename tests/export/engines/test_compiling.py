"""Which graphs TensorRT-RTX builds, for which GPUs and precisions, and the contents of its log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.engines import compile_for, one_layer, quantized, random_bundle
from unimoe_calibration.schemes import Scheme
from unimoe_export.checking import random_inputs
from unimoe_export.engines.rewriting import convolve_products, narrow_attention
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.onnxruntime.sessions import open_session
from unimoe_runtime.bundle.reader import Bundle, open_bundle

pytest.importorskip("tensorrt_rtx", exc_type=ImportError)

DEMO = Path(__file__).parents[3] / "checkpoints" / "demo"
GPUS = ((8, 6), (8, 9), (12, 0))
GRAPHS = ("layers.0.trunk", "layers.0.expert.0", "head")
# The published model's layer, with one routed expert and a small head.
FULL_SIZE = dict(
    hidden_size=2048, num_heads=16, num_kv_heads=2, head_dim=128, num_routed_experts=1, num_shared_experts=2,
    routed_intermediate_size=2752, shared_intermediate_size=1376,
)  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("demo")
    for precision in ("float32", "float16"):
        export_bundle(DEMO, folder / precision, precision=precision)
    plain = open_bundle(folder / "float32")
    return {
        "float16": open_bundle(folder / "float16"),
        "int8": quantized(plain, folder / "int8", Scheme.W8A8),
        "fp8": quantized(plain, folder / "fp8", Scheme.FP8),
    }


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("full")
    plain = random_bundle(folder, one_layer(**FULL_SIZE))
    export_bundle(folder / "checkpoint", folder / "float16", precision="float16")
    return {
        "float16": open_bundle(folder / "float16"),
        "int8": quantized(plain, folder / "int8", Scheme.W8A8),
        "fp8": quantized(plain, folder / "fp8", Scheme.FP8),
    }


def require_whole(bundle: Bundle, graph: str, gpu: tuple[int, int], *, cache_capacity: int) -> None:
    tried = compile_for(bundle, graph, gpu, cache_capacity=cache_capacity)
    assert tried.problem is None, (graph, gpu)
    # Matrix products in the types that the graph states, and attention in one kernel.
    assert tried.fallbacks == (), (graph, gpu)
    assert tried.log.fused_attentions == graph.endswith("trunk")
    assert tried.log.weight_bytes and tried.log.scratch_bytes


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "int8", "fp8"])
def test_the_demo_builds(demo: dict[str, Bundle], precision: str) -> None:
    for gpu in GPUS:
        for graph in GRAPHS if precision != "fp8" or gpu != (8, 6) else ():
            require_whole(demo[precision], graph, gpu, cache_capacity=256)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "int8", "fp8"])
def test_a_layer_of_full_size_builds(full_size: dict[str, Bundle], precision: str) -> None:
    for gpu in GPUS:
        for graph in GRAPHS[:2] if precision != "fp8" or gpu != (8, 6) else ():
            require_whole(full_size[precision], graph, gpu, cache_capacity=1000)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return random_bundle(tmp_path_factory.mktemp("small"), one_layer())


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_attention_is_one_kernel_in_16_bits(head_dim: int, precision: str, tmp_path: Path) -> None:
    config = one_layer(head_dim=head_dim, hidden_size=2 * head_dim, num_heads=2, num_kv_heads=2)
    bundle = random_bundle(tmp_path, config, precision)
    tried = compile_for(bundle, "layers.0.trunk", (8, 6))
    assert tried.problem is None and tried.log.fused_attentions == 1 and not tried.fallbacks


def test_what_is_not_as_the_graph_says_is_told(small: Bundle) -> None:
    tried = compile_for(small, "layers.0.trunk", (8, 6))
    assert tried.problem is None and tried.fallbacks == ("attention takes several kernels, as it always does in fp32",)


def test_turing_gets_convolutions_for_products(small: Bundle) -> None:
    for graph in GRAPHS:
        tried = compile_for(small, graph, (7, 5))
        assert tried.problem is None and not tried.fallbacks
        assert tried.log.fused_attentions == (graph == "layers.0.trunk")


def test_what_a_build_rewrites_computes_the_same(small: Bundle, tmp_path: Path) -> None:
    inputs = random_inputs("layers.0.trunk", small.model, 0)
    path = small.path / small.graphs["layers.0.trunk"].file
    expected = open_session(path).run(None, inputs)
    for rewrite, error in ((convolve_products, 1e-5), (lambda one: narrow_attention(one, "float16"), 5e-3)):
        model_proto = onnx.load(path, load_external_data=False)
        rewrite(model_proto)
        changed = path.with_name("rewritten.onnx")
        onnx.save(model_proto, changed)
        for ours, theirs in zip(open_session(changed).run(None, inputs), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=error, atol=error)
        changed.unlink()
