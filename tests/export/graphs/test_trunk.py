"""Trunk, expert and head graphs: signatures, external data, every variant against the oracle, dynamic shapes.

B rows · T positions · N = B·T tokens · S cache capacity · C hidden · E dynamic experts
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.export.running import run_graph, session
from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_export.checking import largest_deviation, oracle_outputs, random_inputs
from unimoe_export.exporter import build_graph
from unimoe_export.graphs.builder import OPSET
from unimoe_export.layout import write_graph_weights
from unimoe_runtime.backends.numpy import backend as oracle
from unimoe_runtime.backends.numpy.ops import swiglu
from unimoe_runtime.backends.onnxruntime.sessions import open_session
from unimoe_runtime.backends.protocol import StepInputs
from unimoe_runtime.backends.trunk_form import TrunkForm
from unimoe_runtime.bundle.reader import DTYPES
from unimoe_runtime.checkpoint.folder import open_checkpoint
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.files.safetensors_reader import TensorFile

GRAPHS = ["layers.0.trunk", "layers.1.expert.3", "head"]
VARIANTS: dict[str, dict[str, Any]] = {
    "probability": {},
    "sparsemixer": {"weighting": "sparsemixer"},
    "sparsemixer, two shared": {"weighting": "sparsemixer", "num_shared_experts": 2},
    "sparsemixer, no shared": {"weighting": "sparsemixer", "num_shared_experts": 0},
    "sparsemixer, shared alone": {"weighting": "sparsemixer", "num_routed_experts": 0, "num_null_experts": 0},
    "sparsemixer, top_k": {"weighting": "sparsemixer", "selection": "top_k"},
    "top_k": {"selection": "top_k"},
    "everything picked": {"top_p": 1.0},
    "no null": {"num_null_experts": 0},
    "three null": {"num_null_experts": 3},
    "null alone": {"num_routed_experts": 0},
    "no shared": {"num_shared_experts": 0},
    "three shared": {"num_shared_experts": 3},
    "dense": {"num_routed_experts": 0, "num_null_experts": 0},
    "attention alone": {"num_routed_experts": 0, "num_null_experts": 0, "num_shared_experts": 0},
    "no bias": {"qkv_bias": False},
    "heads without groups": {"num_kv_heads": 4},
    "one key head": {"num_kv_heads": 1},
}


def write_graph(
    folder: Path, name: str, precision: str = "float32", **changes: Any
) -> tuple[Path, ModelConfig, TensorFile]:
    checkpoint = open_checkpoint(write_random_checkpoint(folder / "checkpoint", tiny_config(**changes)))
    weights = folder / f"{name}.safetensors"
    write_graph_weights(weights, checkpoint, name, precision)
    build_graph(name, checkpoint.model, weights).save(folder / f"{name}.onnx")
    return folder / f"{name}.onnx", checkpoint.model, TensorFile(weights)


def trunk_inputs(config: ModelConfig, rows: int, length: int, capacity: int, begin: int) -> dict[str, Any]:
    random = np.random.default_rng(length)
    form = TrunkForm(model=config, lean=True)
    angles = np.tile(random.uniform(0, 6, (rows, length, config.head_dim // 2)), 2).astype(np.float32)
    mask_TS = np.arange(capacity)[None, :] <= begin + np.arange(length)[:, None]
    step = StepInputs(
        hidden_BTC=random.standard_normal((rows, length, config.hidden_size), dtype=np.float32),
        cos_BTD=np.cos(angles),
        sin_BTD=np.sin(angles),
        mask_B1TS=np.tile(mask_TS, (rows, 1, 1, 1)),
        write_index_B=np.full(rows, begin, dtype=np.int64),
    )
    cache = form.graph_shape(form.cache_shape(rows, capacity))
    return {
        **form.hidden_inputs(step.hidden_BTC, step.hidden_BTC.reshape(rows * length, -1)),
        **form.step_inputs(step),
        **{name: random.standard_normal(cache, dtype=np.float32) for name in form.caches},
    }


def test_signatures(tmp_path: Path) -> None:
    config = tiny_config()
    hidden, experts = config.hidden_size, config.num_dynamic_experts
    cache, tokens = ["B", "S", 2 * 8], ["N", hidden]
    expected = {
        "layers.0.trunk": (
            {
                "hidden_BTC": ["B", "T", hidden], "hidden_NC": tokens, "cos_BTF": ["B", "T", 4],
                "sin_BTF": ["B", "T", 4], "mask_B1QS": ["B", 1, "Q", "S"], "key_cache_BSX": cache,
                "value_cache_BSX": cache, "write_index_B": ["B"],
            },
            {
                "accumulator_NC": tokens, "expert_input_NC": tokens, "weights_NE": ["N", experts],
                "router_logits_NR": ["N", experts], "new_key_cache_BSX": cache, "new_value_cache_BSX": cache,
            },
        ),
        "layers.1.expert.3": (
            {"accumulator_NC": tokens, "expert_input_NC": tokens, "weight_N1": ["N", 1]},
            {"new_accumulator_NC": tokens},
        ),
        "head": ({"hidden_NC": tokens}, {"logits_NKV": ["N", 2, 11]}),
    }  # fmt: skip
    for name, (inputs, outputs) in expected.items():
        path, _, _ = write_graph(tmp_path, name)
        opened = session(path)
        assert {item.name: item.shape for item in opened.get_inputs()} == inputs
        assert {item.name: item.shape for item in opened.get_outputs()} == outputs
        types = {item.name: item.type for item in [*opened.get_inputs(), *opened.get_outputs()]}
        special = {"mask_B1QS": "tensor(bool)", "write_index_B": "tensor(int64)"}
        assert all(kind == special.get(item, "tensor(float)") for item, kind in types.items())


@pytest.mark.parametrize("name", GRAPHS)
def test_weights_are_external_data_by_offset(tmp_path: Path, name: str) -> None:
    """The weights exist once: the graph names file, offset and length, and itself holds only small constants."""
    path, _, weights = write_graph(tmp_path, name)
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(str(path), full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    found = {}
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            found[tensor.name] = {entry.key: entry.value for entry in tensor.external_data}
        else:
            assert np.prod(tensor.dims) <= 25, f"{tensor.name} is no small constant"
    assert found == {
        tensor: {"location": weights.path.name, "offset": str(entry.offset), "length": str(entry.num_bytes)}
        for tensor, entry in weights.entries.items()
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_equals_the_oracle(tmp_path: Path, variant: str) -> None:
    names = GRAPHS if VARIANTS[variant].get("num_routed_experts") != 0 else ["layers.0.trunk", "head"]
    for name in names:
        path, config, weights = write_graph(tmp_path, name, **VARIANTS[variant])
        tensors = {tensor: weights.float32(tensor) for tensor in weights.entries}
        inputs = random_inputs(name, config, seed=7)
        found = run_graph(path, inputs)
        expected = oracle_outputs(name, config, tensors, inputs)
        assert {item: array.shape for item, array in found.items()} == {
            item: array.shape for item, array in expected.items()
        }
        assert largest_deviation(found, expected)[1] < 1e-5
        if "weights_NE" in found:
            np.testing.assert_array_equal(found["weights_NE"] == 0, expected["weights_NE"] == 0)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", GRAPHS)
def test_products_in_16_bits(tmp_path: Path, name: str, precision: str) -> None:
    """Matrices are stored and multiplied in 16 bits, all else is float32; the CPU computes with the stored values."""
    path, config, weights = write_graph(tmp_path, name, precision, num_shared_experts=2)
    half = {"float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16}[precision]
    matrices = {tensor for tensor, entry in weights.entries.items() if entry.dtype == DTYPES[precision]}
    assert matrices == {t for t, entry in weights.entries.items() if len(entry.shape) == 2} - {"router.weight"}
    onnx.checker.check_model(str(path), full_check=True)
    graph = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False)).graph
    types = {item.name: item.type.tensor_type.elem_type for item in graph.value_info}
    casts = {node.output[0] for node in graph.node if node.op_type == "Cast" and types.get(node.output[0]) == half}
    products = [node for node in graph.node if node.op_type == "MatMul" and types.get(node.output[0]) == half]
    assert len(products) == len(matrices)
    assert {value for node in products for value in node.input} == casts
    results = {node.output[0] for node in products}
    assert {value for value, kind in types.items() if kind == half} == casts | results | matrices

    inputs = random_inputs(name, config, seed=7)
    opened = open_session(path, precision=precision)
    found = dict(zip([item.name for item in opened.get_outputs()], opened.run(None, inputs), strict=True))
    tensors = {tensor: weights.float32(tensor) for tensor in weights.entries}
    assert largest_deviation(found, oracle_outputs(name, config, tensors, inputs))[1] < 1e-5


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 4), length=st.integers(1, 9), begin=st.integers(0, 5), room=st.integers(0, 7))
def test_shapes_vary(trunk: tuple[Path, ModelConfig, Any], rows: int, length: int, begin: int, room: int) -> None:
    """One graph for prefill and decode: any rows, positions, capacity and write index."""
    path, config, tensors = trunk
    inputs = trunk_inputs(config, rows, length, begin + length + room, begin)
    assert largest_deviation(run_graph(path, inputs), oracle.trunk(config, tensors, inputs))[1] < 1e-5


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelConfig, Any]:
    path, config, weights = write_graph(tmp_path_factory.mktemp("trunk"), "layers.0.trunk")
    return path, config, {tensor: weights.float32(tensor) for tensor in weights.entries}


def test_masked_slots_do_not_matter(trunk: tuple[Path, ModelConfig, Any]) -> None:
    """The contents of masked slots, beyond the end or at the left, change no bit."""
    path, config, _ = trunk
    inputs = trunk_inputs(config, 2, 1, 12, 6)
    inputs["mask_B1QS"][1, :, :, :3] = False
    first = run_graph(path, inputs)
    for cache in ("key_cache_BSX", "value_cache_BSX"):
        inputs[cache][1, :3] = 99.0
        inputs[cache][:, 7:] = -99.0
    second = run_graph(path, inputs)
    np.testing.assert_array_equal(first["accumulator_NC"], second["accumulator_NC"])


def test_token_of_weight_zero_keeps_its_bits(tmp_path: Path) -> None:
    """Also if the expert overflows: 0 * inf would be NaN."""
    path, config, weights = write_graph(tmp_path, "layers.1.expert.3")
    inputs = random_inputs("layers.1.expert.3", config, seed=0)
    inputs["expert_input_NC"] *= np.float32(1e30)
    with np.errstate(all="ignore"):
        inner = swiglu(inputs["expert_input_NC"] @ weights.float32("gate_up.weight"))
    assert not np.isfinite(inner).all()
    found_NC = run_graph(path, inputs)["new_accumulator_NC"]
    idle_N = inputs["weight_N1"][:, 0] == 0
    np.testing.assert_array_equal(found_NC[idle_N], inputs["accumulator_NC"][idle_N])


@settings(max_examples=40, deadline=None)
@given(num_tokens=st.integers(1, 7), seed=st.integers(0, 2**16), extra=st.sets(st.integers(0, 3)))
def test_dispatch(mixture: Any, num_tokens: int, seed: int, extra: set[int]) -> None:
    """Launching the union of picks gives the dense sum; launching more experts or gathering rows changes nothing."""
    trunk_path, expert_paths, config, experts = mixture
    inputs = trunk_inputs(config, 1, num_tokens, num_tokens, 0)
    random = np.random.default_rng(seed)
    inputs["hidden_BTC"] = random.standard_normal((1, num_tokens, config.hidden_size), dtype=np.float32)
    outputs = run_graph(trunk_path, inputs)
    x_NC, weights_NE = outputs["expert_input_NC"], outputs["weights_NE"]
    picked = set(np.flatnonzero(weights_NE[:, :4].any(axis=0)).tolist())

    def launch(accumulator_NC: Any, expert: int, rows: Any) -> Any:
        result = accumulator_NC.copy()
        call = {
            "accumulator_NC": accumulator_NC[rows],
            "expert_input_NC": x_NC[rows],
            "weight_N1": weights_NE[rows, expert : expert + 1],
        }
        result[rows] = run_graph(expert_paths[expert], call)["new_accumulator_NC"]
        return result

    alone = together = gathered = dense_NC = outputs["accumulator_NC"]
    for expert in range(4):
        if expert in picked:
            alone = launch(alone, expert, np.arange(num_tokens))
            gathered = launch(gathered, expert, weights_NE[:, expert].nonzero()[0])
        if expert in picked | extra:
            together = launch(together, expert, np.arange(num_tokens))
        output_NC = swiglu(x_NC @ experts[expert]["gate_up.weight"]) @ experts[expert]["down.weight"]
        dense_NC = dense_NC + weights_NE[:, expert : expert + 1] * output_NC
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_allclose(gathered, alone, atol=1e-5)
    np.testing.assert_allclose(alone, dense_NC, atol=1e-5)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("mixture")
    trunk_path, config, _ = write_graph(folder, "layers.0.trunk")
    paths, experts = [], []
    for expert in range(4):
        path, _, weights = write_graph(folder, f"layers.0.expert.{expert}")
        paths.append(path)
        experts.append({tensor: weights.float32(tensor) for tensor in weights.entries})
    return trunk_path, paths, config, experts
