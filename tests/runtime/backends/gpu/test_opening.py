"""Opening a device backend: the engines that fit this machine, or one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from tests.runtime.backends.gpu.opened import PROMPT, Opened, decoded
from tests.runtime.host_device import HostDevice
from tests.runtime.stand_in_tensorrt import StandInTensorRT, write_engine_set
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.backends.gpu import tensorrt_engines as tensorrt
from unimoe_runtime.backends.gpu.onnxruntime_engines import open_onnxruntime_cuda
from unimoe_runtime.backends.gpu.tensorrt_engines import open_tensorrt
from unimoe_runtime.backends.gpu.tensorrt_library import load_library
from unimoe_runtime.backends.numpy.backend import NumpyBackend
from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.errors import BackendError, EngineError, UnimoeError
from unimoe_runtime.install import install_command


def test_what_an_engine_set_cannot_take_is_said_in_one_line(bundle: Bundle) -> None:
    folder = write_engine_set(bundle, unbuilt={"codec_decoder": "Unsupported node"})
    opened = Opened(bundle)
    with pytest.raises(EngineError, match="built for 2 rows at most, 3 are asked for"):
        opened.backend.start(3)
    with pytest.raises(EngineError, match="33 positions do not fit"):
        decoded(opened.backend, 33 - PROMPT.text_ids_BT.shape[1])
    with pytest.raises(BackendError, match="does not take hidden_NC of the shape"):
        opened.backend.run("head", {"hidden_NC": np.zeros((1, 2, 3), np.float32)})
    with pytest.raises(BackendError, match="takes hidden_NC as float32, the bundle gives float64"):
        opened.backend.run("head", {"hidden_NC": np.zeros((1, 16))})
    opened.backend.close()
    (folder / "head.engine").write_text("hurt")
    with pytest.raises(EngineError, match="damaged"):
        Opened(bundle).backend.load(["head"])


@pytest.fixture
def machine(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A machine with a GPU of capability 8.9 and the stand-in for TensorRT."""
    machine = SimpleNamespace(devices=[])

    def device() -> HostDevice:
        machine.devices.append(HostDevice())
        return machine.devices[-1]

    def library(flavour: str) -> StandInTensorRT:
        return StandInTensorRT(
            bundle, machine.devices[-1] if machine.devices else HostDevice(), NumpyBackend(bundle).run
        )

    monkeypatch.setattr(tensorrt, "CudaDevice", device)
    monkeypatch.setattr(tensorrt, "load_library", library)
    yield machine
    assert all(device.closed for device in machine.devices), "an error left the device open"


def test_opening_finds_the_engines_that_fit(
    bundle: Bundle, machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIMOE_TRUST_ENGINES", "1")
    with pytest.raises(EngineError, match="has no engines; `unimoe build"):
        open_backend("tensorrt", bundle)
    write_engine_set(bundle)
    for target in (None, "rtx-4090"):
        open_backend("tensorrt", bundle, target=target).close()
    with pytest.raises(EngineError, match="no engines for l4"):
        open_backend("tensorrt", bundle, target="l4")
    write_engine_set(bundle, target="l4")
    with pytest.raises(EngineError, match=r"8\.9, engines that fit it: l4, rtx-4090"):
        open_backend("tensorrt", bundle)
    write_engine_set(bundle, target="old", version="10.15.0")
    with pytest.raises(EngineError, match=r"built with tensorrt 10\.15\.0"):
        open_backend("tensorrt", bundle, target="old")
    with pytest.raises(BackendError, match="no memory budget"):
        open_backend("tensorrt", bundle, memory_budget_bytes=1 << 20)


def test_what_is_not_installed_or_not_there_is_said_in_one_line(bundle: Bundle) -> None:
    write_engine_set(bundle, version="11.4.0")
    for action in (
        lambda: open_tensorrt(bundle, None),  # neither the library nor a GPU
        lambda: load_library("tensorrt"),
        lambda: open_onnxruntime_cuda(bundle),
        lambda: open_backend("onnxruntime-cuda", bundle, memory_budget_bytes=1),
    ):
        with pytest.raises(UnimoeError) as caught:
            action()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("module", "extra"), [("onnxruntime.passes", "cpu"), ("gpu.onnxruntime_engines", "gpu")])
def test_a_missing_onnxruntime_names_the_extra_that_brings_it(module: str, extra: str) -> None:
    script = f"import sys; sys.modules['onnxruntime'] = None; import unimoe_runtime.backends.{module}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert f"BackendError: ONNX Runtime is not installed: `{install_command(extra)}`" in done.stderr
