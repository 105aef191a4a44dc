"""Caches that change size, and rows that move between them, for every kind of forward."""

from __future__ import annotations

import numpy as np
import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from tests.runtime.host_device import HostDevice
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.gpu.backend import DeviceBackend
from unimoe_runtime.backends.gpu.device import Pool
from unimoe_runtime.backends.gpu.onnxruntime_engines import OnnxRuntimeEngines
from unimoe_runtime.backends.protocol import Backend, Forward
from unimoe_runtime.backends.wrapper import WrappedBackend
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.model.generation import Prompt
from unimoe_runtime.synthesis.language_model import BundleModel

PROMPT = Prompt.from_rows([[1, 2, 3, 4, 5], [6, 7, 8]], paired=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("forward")
    export_bundle(write_random_checkpoint(folder / "checkpoint", tiny_config()), folder / "bundle")
    return open_bundle(folder / "bundle")


@pytest.fixture(params=["numpy", "onnxruntime", "wrapped", "device"])
def backend(request: pytest.FixtureRequest, bundle: Bundle) -> Backend:
    match request.param:
        case "wrapped":
            return WrappedBackend(open_backend("onnxruntime", bundle), by_graph=True)
        case "device":
            device = HostDevice(eager=True)
            pool = Pool(device)
            engines = OnnxRuntimeEngines(bundle, device, pool, graphs=True)
            return DeviceBackend("onnxruntime-cuda", bundle, device, pool, engines)
    return open_backend(request.param, bundle)


def rows_of(backend: Backend, forward: Forward, row: int) -> list[np.ndarray]:
    """Keys and values in a row's first five slots."""
    probe = backend.start(1)
    probe.resize(1, 16)
    probe.copy_rows(forward, row, 0, 1, 5)
    kept = [array for pair in probe.snapshot(5).layers for array in pair]
    probe.close()
    return kept


def test_rows_are_kept_through_sizes_and_moves(backend: Backend) -> None:
    model = BundleModel(backend)
    model.prefill(PROMPT)
    own = model.hand_over()
    expected = [rows_of(backend, own, row) for row in (0, 1)]
    assert any((first != second).any() for first, second in zip(*expected, strict=True))
    shared = backend.start(1)
    for num_rows, capacity in [(4, 16), (4, 64), (8, 64), (4, 32), (8, 48)]:
        shared.resize(num_rows, capacity)
        if (num_rows, capacity) == (4, 16):
            shared.copy_rows(own, 0, 2, 2, 5)
        for row in (0, 1):
            for found, wanted in zip(rows_of(backend, shared, 2 + row), expected[row], strict=True):
                np.testing.assert_array_equal(found, wanted)
    shared.copy_rows(shared, 2, 0, 2, 5)
    for found, wanted in zip(rows_of(backend, shared, 1), expected[1], strict=True):
        np.testing.assert_array_equal(found, wanted)
    for forward in (shared, own):
        forward.close()
        forward.close()


def test_a_wrapper_passes_everything_on(bundle: Bundle) -> None:
    inner = open_backend("onnxruntime", bundle)
    wrapped = WrappedBackend(inner)
    wrapped.load(["head"])
    assert wrapped.name == "onnxruntime" and wrapped.row_counts == inner.row_counts
    assert wrapped.residency() is None
    hidden_NC = np.ones((2, bundle.model.hidden_size), np.float32)
    found = wrapped.run("head", {"hidden_NC": hidden_NC})["logits_NKV"]
    np.testing.assert_array_equal(found, inner.run("head", {"hidden_NC": hidden_NC})["logits_NKV"])
    wrapped.close()
