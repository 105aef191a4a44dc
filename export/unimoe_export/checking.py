"""Comparing each new graph with the numpy oracle.

B rows · T positions · N = B·T tokens · S cache capacity · C hidden
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_export.graphs.codecs.common import CodecGraph
from unimoe_runtime.backends.numpy import backend as oracle
from unimoe_runtime.backends.protocol import StepInputs
from unimoe_runtime.backends.trunk_form import TrunkForm
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import GraphError
from unimoe_runtime.files.safetensors_reader import TensorFile

Arrays = dict[str, NDArray[Any]]

# Largest deviation from the oracle, relative to an output's largest value (or 1): float32 sums of some thousand
# terms in another order differ by about 1e-6.
TOLERANCE = 1e-4
_DRAWS = 3
_ROWS, _LENGTH, _CAPACITY = 2, 3, 8


def engine_available() -> bool:
    """True where ONNX Runtime is installed, so that graphs can be checked by running them."""
    return importlib.util.find_spec("onnxruntime") is not None


def check_graph(path: Path, name: str, config: ModelConfig, weights: TensorFile, precision: str = "float32") -> float:
    """Largest relative deviation of a language-model graph from the oracle, on seeded random inputs.

    Weights of 16 bits cause no deviation: the oracle and the CPU both multiply the stored values in float32.
    Raises GraphError, which names the output that deviates.
    """
    tensors = {tensor: weights.float32(tensor) for tensor in weights.entries}

    def draw(seed: int) -> tuple[Arrays, Arrays]:
        inputs = random_inputs(name, config, seed)
        return inputs, oracle_outputs(name, config, tensors, inputs)

    return largest_deviation_of(path, draw, precision)


def check_codec_graph(
    path: Path, graph: CodecGraph, description: Mapping[str, Any], weights: TensorFile
) -> float | None:
    """The same for a codec's graph. `description` is the manifest's; the result is None for a codec without oracle."""
    codec_oracle = oracle.CODEC_GRAPHS.get((description["kind"], graph.name))
    if codec_oracle is None:
        return None
    tensors = {tensor: weights.float32(tensor) for tensor in weights.entries}

    def draw(seed: int) -> tuple[Arrays, Arrays]:
        inputs = random_codec_inputs(graph, description, seed)
        return inputs, codec_oracle(description, tensors, inputs)

    return largest_deviation_of(path, draw)


def largest_deviation_of(path: Path, draw: Callable[[int], tuple[Arrays, Arrays]], precision: str = "float32") -> float:
    """Run a graph on random inputs and compare its outputs with the oracle's.

    A token within rounding of the Top-P threshold may legitimately route differently, and a frame equally near to two
    codes may get either. So a failed draw is repeated with new inputs; a wrong graph fails on every draw.
    """
    from unimoe_runtime.backends.onnxruntime.sessions import open_session

    session = open_session(path, precision=precision)
    output, error = "", np.inf
    for seed in range(_DRAWS):
        inputs, expected = draw(seed)
        found = dict(zip([item.name for item in session.get_outputs()], session.run(None, inputs), strict=True))
        output, error = largest_deviation(found, expected)
        if error <= TOLERANCE:
            return error
    raise GraphError(
        f"{path}: {output} differs from the oracle by {error:.1e} (allowed {TOLERANCE:.0e}); "
        "the graph does not compute this checkpoint"
    )


def random_codec_inputs(graph: CodecGraph, description: Mapping[str, Any], seed: int) -> Arrays:
    """Seeded inputs of a codec graph: two rows of three frames, and for the decoder a mid-stream state."""
    random = np.random.default_rng(seed)
    sizes = {"B": _ROWS, "T": _LENGTH, "L": _LENGTH * int(description["hop_samples"])}
    inputs: Arrays = {}
    for info in graph.inputs:
        shape = [sizes[size] if isinstance(size, str) else size for size in info.shape]
        if info.dtype == "int64":
            inputs[info.name] = random.integers(int(description["codebook_size"]), size=shape)
        else:
            inputs[info.name] = 0.1 * random.standard_normal(shape, dtype=np.float32)
    return inputs


def random_inputs(name: str, config: ModelConfig, seed: int) -> Arrays:
    """Seeded inputs of a trunk (two rows of three positions, after two cached ones), an expert or the head."""
    random = np.random.default_rng(seed)
    tokens, hidden = _ROWS * _LENGTH, config.hidden_size

    def normal(*shape: int) -> NDArray[np.float32]:
        return random.standard_normal(shape, dtype=np.float32)

    if name == "head":
        return {"hidden_NC": normal(tokens, hidden)}
    if "expert" in name:
        weight_N1 = np.abs(normal(tokens, 1))
        weight_N1[::2] = 0
        return {
            "accumulator_NC": normal(tokens, hidden),
            "expert_input_NC": normal(tokens, hidden),
            "weight_N1": weight_N1,
        }
    angles = random.uniform(0, 6, (_ROWS, _LENGTH, config.head_dim // 2)).astype(np.float32)
    angles_BTD = np.concatenate([angles, angles], axis=-1)
    last_slot_T = 2 + np.arange(_LENGTH)
    mask_TS = np.arange(_CAPACITY)[None, :] <= last_slot_T[:, None]
    step = StepInputs(
        hidden_BTC=normal(_ROWS, _LENGTH, hidden),
        cos_BTD=np.cos(angles_BTD),
        sin_BTD=np.sin(angles_BTD),
        mask_B1TS=np.broadcast_to(mask_TS, (_ROWS, 1, *mask_TS.shape)),
        write_index_B=np.full(_ROWS, 2, dtype=np.int64),
    )
    form = TrunkForm(model=config, lean=True)
    cache_shape = form.graph_shape(form.cache_shape(_ROWS, _CAPACITY))
    return {
        **form.hidden_inputs(step.hidden_BTC, step.hidden_BTC.reshape(tokens, hidden)),
        **form.step_inputs(step),
        **{name: normal(*cache_shape) for name in form.caches},
    }


def oracle_outputs(
    name: str, config: ModelConfig, weights: Mapping[str, NDArray[np.float32]], inputs: Arrays
) -> Arrays:
    """The numpy oracle's outputs for the inputs."""
    if name == "head":
        return oracle.head(config, weights, inputs)
    if "expert" in name:
        return oracle.expert(weights, inputs)
    return oracle.trunk(config, weights, inputs)


def largest_deviation(found: Mapping[str, Any], expected: Mapping[str, Any]) -> tuple[str, float]:
    """The output that deviates most, and by how much, relative to its largest value (or 1). NaN counts as inf."""
    worst = "", 0.0
    for name, right in expected.items():
        if not right.size:
            continue
        scale = max(1.0, float(np.abs(right).max()))
        error = float(np.abs(found[name] - right).max()) / scale
        if not error <= worst[1]:
            worst = name, error if error == error else np.inf
    return worst
