"""The device loop on a stand-in device in host memory: the same results, fixed addresses, one capture, no leaks.

Engines are the TensorRT module over a stand-in for the library, computed by the oracle, and ONNX Runtime on the CPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from tests.runtime.backends.gpu.opened import PROMPT, Opened, decoded, over_onnxruntime
from tests.runtime.host_device import HostDevice
from tests.runtime.stand_in_tensorrt import write_engine_set
from tests.speaking_bundle import write_speaking_bundle
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.gpu.device import Pool
from unimoe_runtime.backends.gpu.onnxruntime_engines import OnnxRuntimeEngines
from unimoe_runtime.backends.numpy.backend import NumpyBackend
from unimoe_runtime.backends.onnxruntime.backend import OnnxRuntimeBackend
from unimoe_runtime.backends.protocol import Backend, Forward, StepInputs
from unimoe_runtime.bundle.reader import Bundle, expert_name, open_bundle
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.synthesis.language_model import BundleModel
from unimoe_runtime.synthesis.lru_cache import LRUCache
from unimoe_runtime.synthesis.prompt_pass import cache_capacity
from unimoe_tools.parity.graphs import compare_graphs

TOLERANCE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}


OPENERS: dict[str, Callable[[Bundle], Backend]] = {
    "tensorrt": lambda bundle: Opened(bundle).backend,
    "tensorrt, no graphs": lambda bundle: Opened(bundle, graphs=False).backend,
    "tensorrt, no capture": lambda bundle: Opened(bundle, refuses_capture=True).backend,
    "onnxruntime": over_onnxruntime,
}


@pytest.mark.parametrize("opener", OPENERS)
def test_same_logits_and_routing_as_on_the_cpu(bundle: Bundle, opener: str) -> None:
    """A prompt in chunks with a shorter last one, and steps that exceed the first cache."""
    write_engine_set(bundle)
    expected, reference = decoded(OnnxRuntimeBackend(bundle))
    backend = OPENERS[opener](bundle)
    found, model = decoded(backend)
    np.testing.assert_allclose(found, expected, **TOLERANCE)
    assert model.statistics == reference.statistics
    backend.close()


@pytest.mark.parametrize(
    "changes",
    [{"num_routed_experts": 0, "num_null_experts": 0}, {"num_layers": 1}, {"num_heads": 2, "num_null_experts": 3}],
    ids=["dense", "one layer", "a key head each"],
)
def test_models_without_some_parts(tmp_path: Path, changes: dict[str, int]) -> None:
    export_bundle(write_random_checkpoint(tmp_path / "checkpoint", tiny_config(**changes)), tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    write_engine_set(bundle)
    expected, _ = decoded(OnnxRuntimeBackend(bundle), 4)
    for opener in ("tensorrt", "onnxruntime"):
        backend = OPENERS[opener](bundle)
        np.testing.assert_allclose(decoded(backend, 4)[0], expected, **TOLERANCE)
        backend.close()


@pytest.mark.parametrize("opener", ["tensorrt", "onnxruntime"])
def test_every_graph_runs_by_name(bundle: Bundle, opener: str) -> None:
    """The comparison of `verify`, in which a prompt's pass has one of the engine's shapes."""
    write_engine_set(bundle, capacities=(cache_capacity(PROMPT.text_ids_BT.shape[1]),), positions=16)
    backend = OPENERS[opener](bundle)
    errors = compare_graphs(backend, NumpyBackend(bundle), PROMPT)
    assert {error.graph for error in errors} == set(bundle.graphs)
    assert max(error.max_abs_error for error in errors) < 1e-4
    backend.close()


@pytest.mark.parametrize("opener", ["tensorrt", "onnxruntime"])
def test_shared_prefixes_and_reading_the_state(bundle: Bundle, opener: str) -> None:
    write_engine_set(bundle)
    prompt = Prompt.from_rows([[1, 2, 3, 4, 5], [1, 2, 3, 6, 7, 8]], paired=True, num_shared=3)
    backend = OPENERS[opener](bundle)
    expected, _ = decoded(OnnxRuntimeBackend(bundle), 2, prompt)
    for _ in range(2):
        model = BundleModel(backend, prefixes=LRUCache(1 << 20))
        for _ in range(2):  # read, then restored
            model.prefill(prompt)
        codes_BK = np.random.default_rng(0).integers(8, size=(2, 2))
        found = model.step(codes_BK, prompt.first_position_B)
        count = prompt.num_rows * 2 * bundle.model.codec_vocab_size
        np.testing.assert_allclose(found.ravel(), expected[-2 * count : -count], **TOLERANCE)
    forwards = [backend.start(2), OnnxRuntimeBackend(bundle).start(2)]
    states = [state_after(forward) for forward in forwards]
    for one, other in zip(*states, strict=True):
        np.testing.assert_allclose(one, other, **TOLERANCE)

    backend.close()


def state_after(forward: Forward) -> list[np.ndarray]:
    """The visible state of a forward within a pass over five positions."""
    rng = np.random.default_rng(3)
    mask = np.tri(5, dtype=np.bool_)[None, None].repeat(2, axis=0)
    forward.begin(
        StepInputs(
            hidden_BTC=rng.standard_normal((2, 5, 16), dtype=np.float32),
            cos_BTD=np.tile(rng.standard_normal((2, 5, 4), dtype=np.float32), 2),
            sin_BTD=np.tile(rng.standard_normal((2, 5, 4), dtype=np.float32), 2),
            mask_B1TS=np.concatenate([mask, np.zeros((2, 1, 5, 3), np.bool_)], axis=-1),
            write_index_B=np.zeros(2, np.int64),
        )
    )
    weights = forward.trunk(0).copy()
    logits = forward.router_logits().copy()
    forward.expert(0, 1, weights[:, 1:2])
    once = forward.hidden()
    forward.expert(0, 1, weights[:, 1:2] + 1)
    cached = forward.snapshot(4)
    return [weights, logits, once, forward.hidden(), *cached.layers[0]]


def test_addresses_stay_and_each_graph_is_captured_once(bundle: Bundle) -> None:
    write_engine_set(bundle, capacities=(64,))
    opened = Opened(bundle)
    model = decoded(opened.backend, 20)[1]
    per_engine = Counter(opened.backend.tally.captures)
    assert set(per_engine.values()) == {1}
    assert {graph for graph, _, _ in per_engine} >= {"layers.0.trunk", "layers.1.trunk", "head"}
    assert {(rows, capacity) for _, rows, capacity in per_engine} == {(2, 64)}
    replayed = [context for context in opened.trt.contexts if len(context.address_log) == len(context.addresses)]
    assert len(replayed) >= len(per_engine)  # bound only once
    before = opened.device.allocations, len(opened.trt.contexts), len(opened.device.graphs)
    launches = opened.device.launches
    for _ in range(10):
        model.step(np.zeros((2, 2), np.int64), np.zeros(2, np.float32))
    assert opened.device.launches > launches
    assert before[1:] == (len(opened.trt.contexts), len(opened.device.graphs))
    assert opened.device.allocations == before[0], "the decode loop allocates"
    # The next utterance of this size reuses memory, contexts and graphs.
    model.close()
    expected = decoded(OnnxRuntimeBackend(bundle), 20)[0]
    np.testing.assert_allclose(decoded(opened.backend, 20)[0], expected, **TOLERANCE)
    assert set(Counter(opened.backend.tally.captures).values()) == {1}
    opened.backend.close()


def test_one_read_back_a_layer_and_one_for_the_logits(bundle: Bundle) -> None:
    write_engine_set(bundle)
    opened = Opened(bundle)
    model = decoded(opened.backend)[1]
    waits = opened.device.waits
    model.step(np.zeros((2, 2), np.int64), np.zeros(2, np.float32))
    assert opened.device.waits - waits == bundle.model.num_layers + 1
    opened.backend.close()


def test_utterances_at_the_same_time_have_their_own_state(bundle: Bundle) -> None:
    write_engine_set(bundle)
    opened = Opened(bundle)
    expected = [decoded(OnnxRuntimeBackend(bundle), 6, prompt)[0] for prompt in (PROMPT, OTHER)]
    models = [BundleModel(opened.backend) for _ in range(2)]
    found: list[list[np.ndarray]] = []
    generators = [np.random.default_rng(0) for _ in models]
    for model, prompt in zip(models, (PROMPT, OTHER), strict=True):
        model.prefill(prompt)
        found.append([model.logits(np.flatnonzero(prompt.mask_BT.reshape(-1))).ravel()])
    for index in range(6):
        for number, (model, prompt) in enumerate(zip(models, (PROMPT, OTHER), strict=True)):
            codes_BK = generators[number].integers(8, size=(prompt.num_rows, 2))
            found[number].append(model.step(codes_BK, prompt.first_position_B + np.float32(index)).ravel())
    for parts, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.concatenate(parts), wanted, **TOLERANCE)
    opened.backend.close()


def test_threads_share_the_stream(bundle: Bundle) -> None:
    """Two utterances and a graph by name, each in a thread; captures overlap with other threads' calls."""
    write_engine_set(bundle)
    opened = Opened(bundle)
    prompts = (PROMPT, OTHER, PROMPT)
    expected = [decoded(OnnxRuntimeBackend(bundle), 8, prompt)[0] for prompt in prompts]
    hidden = {"hidden_NC": np.random.default_rng(0).standard_normal((2, 16), dtype=np.float32)}
    logits = NumpyBackend(bundle).run("head", hidden)["logits_NKV"]
    with ThreadPoolExecutor(4) as threads:
        utterances = [threads.submit(decoded, opened.backend, 8, prompt) for prompt in prompts]
        heads = [threads.submit(opened.backend.run, "head", hidden) for _ in range(50)]
        for utterance, wanted in zip(utterances, expected, strict=True):
            np.testing.assert_allclose(utterance.result()[0], wanted, **TOLERANCE)
        for head in heads:
            np.testing.assert_array_equal(head.result()["logits_NKV"], logits)

    opened.backend.close()


OTHER = Prompt.from_rows([[9, 8, 7, 6]])


def test_everything_is_given_back(bundle: Bundle) -> None:
    write_engine_set(bundle)
    opened = Opened(bundle)
    model = decoded(opened.backend)[1]
    opened.backend.close()
    opened.backend.close()
    device = opened.device
    assert device.closed and not device.num_allocated and not device.pinned_memory
    assert device.graphs and all(graph.closed for graph in device.graphs)
    model.close()  # its workspace no longer exists


def test_a_longer_recording_than_the_encoder_s_engine_takes_goes_to_the_cpu(tmp_path: Path) -> None:
    bundle = open_bundle(write_speaking_bundle(tmp_path))
    (pcm,) = bundle.graphs["codec_encoder"].inputs
    write_engine_set(bundle, extra={"codec_encoder": {pcm.name: ((1, 1), (1, 320), (1, 640))}})
    opened, cpu = Opened(bundle), OnnxRuntimeBackend(bundle)
    for samples, num_engines in ((960, 0), (640, 1)):
        inputs = {pcm.name: np.random.default_rng(0).standard_normal((1, samples), dtype=np.float32)}
        found, expected = (backend.run("codec_encoder", inputs) for backend in (opened.backend, cpu))
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
        assert len(opened.trt.deserialized) == num_engines
    opened.backend.close()


def test_capacities_are_those_of_the_mask_s_bucket(bundle: Bundle) -> None:
    engines = OnnxRuntimeEngines(bundle, HostDevice(), Pool(HostDevice()), graphs=True)
    assert [engines.capacity(slots) for slots in (1, 256, 257, 900)] == [256, 256, 512, 1024]


def test_tensorrt_rtx_captures_by_itself_and_keeps_its_kernels(bundle: Bundle) -> None:
    folder = write_engine_set(bundle, flavour="tensorrt-rtx", version="1.7.1")
    for content in (b"fresh", b"fresh+"):
        opened = Opened(bundle)
        expected = decoded(OnnxRuntimeBackend(bundle))[0]
        np.testing.assert_allclose(decoded(opened.backend)[0], expected, **TOLERANCE)
        assert not opened.device.graphs
        strategies = Counter(context.config.cuda_graph_strategy for context in opened.trt.contexts)
        assert set(strategies) == {"disabled", "whole"}
        assert len({id(context.config.cache) for context in opened.trt.contexts}) == 1
        opened.backend.close()
        assert (folder / "runtime.cache").read_bytes() == content


def test_an_expert_nobody_picked_in_a_chunk_is_not_called_there(bundle: Bundle) -> None:
    write_engine_set(bundle)
    opened = Opened(bundle)
    model = BundleModel(opened.backend)
    model.prefill(PROMPT)  # seven positions in chunks of three, three and one
    opened.device.synchronize()
    runs = Counter[str]()
    for context in opened.trt.contexts:
        runs[context.engine.graph] += context.runs
    assert runs["layers.0.trunk"] == 3
    assert all(runs[expert_name(0, expert)] <= 3 for expert in range(4))
    opened.backend.close()
