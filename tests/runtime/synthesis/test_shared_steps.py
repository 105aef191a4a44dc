"""Shared steps equal each stream alone, to the bit on the CPU: any rows and positions, joins, leaves, pauses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.quantized import plan_of
from tests.random_checkpoint import tiny_config, write_random_checkpoint
from tests.runtime.host_device import HostDevice
from unimoe_calibration.schemes import Scheme
from unimoe_calibration.writing import write_quantized
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.gpu.backend import DeviceBackend
from unimoe_runtime.backends.gpu.device import Pool
from unimoe_runtime.backends.gpu.onnxruntime_engines import OnnxRuntimeEngines
from unimoe_runtime.backends.onnxruntime.backend import OnnxRuntimeBackend
from unimoe_runtime.backends.onnxruntime.forward import BoundForward
from unimoe_runtime.backends.protocol import Backend
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.synthesis.language_model import BundleModel, Embedder
from unimoe_runtime.synthesis.shared_steps import SharedSteps

FORMAT_1 = Path(__file__).parents[2] / "vectors" / "bundle_format_1" / "float32"
PROMPTS = [
    Prompt.from_rows([[1, 2, 3], [4, 5, 6, 7, 8, 9, 10]], paired=True),
    Prompt.from_rows([[3, 1, 4, 1, 5, 9, 2, 6]]),
    Prompt.from_rows([[1], np.arange(19).tolist()], paired=True),
    Prompt.from_rows([[2, 7], [1, 8, 2]], paired=True),
]
STEPS = 24


class Stream:
    """A stream with given codes, and its logits so far."""

    def __init__(self, backend: Backend, index: int) -> None:
        self.prompt = PROMPTS[index]
        self.model = BundleModel(backend)
        self.model.prefill(self.prompt)
        config = backend.bundle.model
        codes = np.random.default_rng(index).integers(config.codebook_size, size=(STEPS, config.num_codebooks))
        self.codes: list[list[int]] = codes.tolist()
        self.logits: list[np.ndarray] = []

    @property
    def position_B(self) -> np.ndarray:
        return np.asarray(self.prompt.first_position_B + np.float32(len(self.logits)))

    @property
    def next_codes(self) -> list[int]:
        return self.codes[len(self.logits)]

    def step_alone(self) -> None:
        self.logits.append(self.model.step_alone(self.next_codes, self.position_B))


def alone(backend: Backend, index: int) -> Stream:
    stream = Stream(backend, index)
    for _ in range(STEPS):
        stream.step_alone()
    return stream


def step(shared: SharedSteps, streams: list[Stream]) -> None:
    found = shared.step(
        [stream.model for stream in streams],
        [stream.next_codes for stream in streams],
        [stream.position_B for stream in streams],
    )
    for stream, row in zip(streams, found.first_rows, strict=True):
        stream.logits.append(found.logits_RKV[row : row + stream.model.num_rows].copy())


def scenario(backend: Backend) -> list[Stream]:
    """Streams join at different times, pause, leave for their own cache and return, and end at different times."""
    streams = [Stream(backend, index) for index in range(len(PROMPTS))]
    first, second, third, fourth = streams
    shared = SharedSteps(backend, Embedder(backend))
    for _ in range(3):
        first.step_alone()
    shared.join(first.model)
    shared.join(second.model)
    for _ in range(4):
        step(shared, [first, second])
    shared.join(third.model)
    for _ in range(3):
        step(shared, [first, third])  # the second one pauses
    shared.park(first.model)
    for _ in range(2):
        first.step_alone()
        step(shared, [second, third])
    shared.join(fourth.model)
    shared.join(first.model)
    while any(len(stream.logits) < STEPS for stream in streams):
        going = [stream for stream in streams if len(stream.logits) < STEPS]
        step(shared, going)
        for stream in going:
            if len(stream.logits) == STEPS:
                shared.leave(stream.model)
    assert not len(shared)
    return streams


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with products of more than 256 terms, which kernels split into blocks, and an odd number of experts."""
    folder = tmp_path_factory.mktemp("shared")
    config = tiny_config(hidden_size=272, routed_intermediate_size=264, num_routed_experts=4, num_null_experts=1)
    export_bundle(write_random_checkpoint(folder / "checkpoint", config), folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module")
def quantized(floats: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    source, paths = open_bundle(floats), {}
    for scheme in (Scheme.W8A8, Scheme.W8, Scheme.W4):
        paths[scheme.precision] = tmp_path_factory.mktemp(scheme) / "bundle"
        write_quantized(source, paths[scheme.precision], plan_of(source, scheme), {})
    return paths


@pytest.mark.parametrize(
    ("kind", "budget_bytes"),
    [
        ("float32", None), ("float32", 0), ("int8", None), ("int8-weights", None), ("int4-weights", None),
        ("format 1", None),
    ],
)  # fmt: skip
def test_logits_are_those_of_running_alone_to_the_bit(
    floats: Path, quantized: dict[str, Path], kind: str, budget_bytes: int | None
) -> None:
    bundle = open_bundle({"float32": floats, "format 1": FORMAT_1, **quantized}[kind])
    expected_from = OnnxRuntimeBackend(bundle)
    backend = OnnxRuntimeBackend(bundle, memory_budget_bytes=budget_bytes)
    for index, found in enumerate(scenario(backend)):
        expected = alone(expected_from, index)
        np.testing.assert_array_equal(np.array(found.logits), np.array(expected.logits))
        assert found.model.statistics == expected.model.statistics
    if budget_bytes is not None:
        residency = backend.residency()
        assert residency is not None and residency.uses


def test_a_device_steps_with_a_few_row_counts(floats: Path) -> None:
    """The stand-in device gives the CPU's results, in reused workspaces of few sizes."""
    bundle = open_bundle(floats)
    device = HostDevice(eager=True)
    pool = Pool(device)
    engines = OnnxRuntimeEngines(bundle, device, pool, graphs=True)
    backend = DeviceBackend("onnxruntime-cuda", bundle, device, pool, engines)
    reference = OnnxRuntimeBackend(bundle)
    for index, found in enumerate(scenario(backend)):
        expected = np.array(alone(reference, index).logits)
        np.testing.assert_allclose(np.array(found.logits), expected, atol=1e-4, rtol=1e-4)
    scenario(backend)
    taken = pool.num_bytes
    scenario(backend)
    assert pool.num_bytes == taken, "what was taken is used again"
    backend.close()


@pytest.mark.parametrize("pieces", [(5,), (1, 1, 1), (2, 3, 99), (16, 2)])
def test_a_prompt_may_be_cut_anywhere(floats: Path, pieces: tuple[int, ...]) -> None:
    backend = OnnxRuntimeBackend(open_bundle(floats))
    for prompt in PROMPTS:
        whole, cut = BundleModel(backend), BundleModel(backend)
        whole.prefill(prompt)
        reading, sizes = cut.read(prompt), iter(pieces)
        left = next(reading)
        try:
            while left:
                left = reading.send(next(sizes, left))
        except StopIteration:
            pass
        codes = [1, 2]
        np.testing.assert_array_equal(
            cut.step_alone(codes, prompt.first_position_B), whole.step_alone(codes, prompt.first_position_B)
        )


def test_a_step_that_fails_changes_nothing(floats: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = OnnxRuntimeBackend(open_bundle(floats))
    streams = [Stream(backend, index) for index in (0, 1)]
    shared = SharedSteps(backend, Embedder(backend))
    for stream in streams:
        shared.join(stream.model)
    with monkeypatch.context() as patched:
        patched.setattr(BoundForward, "head", lambda forward, tokens_M: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            step(shared, streams)
    while len(streams[0].logits) < STEPS:
        step(shared, streams)
    for index, stream in enumerate(streams):
        np.testing.assert_array_equal(np.array(stream.logits), np.array(alone(backend, index).logits))
