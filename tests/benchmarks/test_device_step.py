"""The device benchmark's own paths, on a stand-in device in host memory. No timing is asserted."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch

from benchmarks import device_step
from benchmarks.workload import model_config, write_checkpoint
from tests.runtime.host_device import HostDevice
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.gpu.backend import DeviceBackend
from unimoe_runtime.backends.gpu.cuda import CudaDevice
from unimoe_runtime.backends.gpu.device import Pool
from unimoe_runtime.backends.gpu.onnxruntime_engines import OnnxRuntimeEngines
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.errors import BackendError


def test_without_a_gpu_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: CudaDevice) -> None:
        raise BackendError("no GPU: there is none")

    monkeypatch.setattr(CudaDevice, "__init__", none)
    assert device_step.main(["--hidden", "384"]) == 1
    assert capsys.readouterr().err == "nothing measured: no GPU: there is none\n"


def test_measures_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(tmp_path / "checkpoint", model_config(128, num_layers=1))
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    device = HostDevice(eager=True)
    pool = Pool(device)
    engines = OnnxRuntimeEngines(bundle, device, pool, graphs=True)
    backend = DeviceBackend("onnxruntime-cuda", bundle, device, pool, engines)
    timed = 0

    def milliseconds(enqueue: object) -> float:
        nonlocal timed
        timed += 1
        enqueue()  # type: ignore[operator]
        return 0.25

    measured = device_step.measure_ours("onnxruntime-cuda", backend, [0, 2], 3, milliseconds)
    assert [one.engines_ms for one in measured] == [0.5, 1.0]  # head, trunk and picked experts
    assert timed == 20 * (2 + 4)
    assert device.closed
    measured += [device_step.Measured(hidden=128, layers=1, picked=0, way="torch, eager", step_ms=1.0)]
    files = argparse.Namespace(json=tmp_path / "r.json", markdown=tmp_path / "r.md")
    device_step.report(measured, files, gpu={"capability": (8, 9)})
    rows = json.loads((tmp_path / "r.json").read_text())["measured"]
    assert [row["ratio"] is None for row in rows] == [False, False, True]
    assert "torch, eager" in (tmp_path / "r.md").read_text()
    assert "hidden 128" in capsys.readouterr().out


def test_torch_without_cuda_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("PyTorch has CUDA here")
    assert device_step.measure_torch(tmp_path, None, [0], 1) == []  # type: ignore[arg-type]
    assert "left out" in capsys.readouterr().err
