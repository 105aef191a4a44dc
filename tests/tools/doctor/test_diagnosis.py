"""The doctor on synthetic machines, with a fake driver, with crashing probes, and on the real machine."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unimoe_runtime.hardware import cuda_probe, probes
from unimoe_runtime.hardware.cuda_probe import read_gpus
from unimoe_runtime.hardware.probes import Gpu, Gpus, OnnxRuntime
from unimoe_runtime.hardware.system import System, driver_version, read_system
from unimoe_runtime.install import install_command
from unimoe_tools.doctor.diagnosis import Diagnosis, Finding, diagnose
from unimoe_tools.doctor.evidence import Evidence
from unimoe_tools.doctor.packages import Need

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
BARE = Evidence(
    system=System(
        system="Linux", python="CPython 3.12.3", cpu="a CPU", cores=8, instructions=("AVX2",), memory_bytes=16 << 30,
        free_bytes=8 << 30, jetson=None, nvidia_card=False,
    ),
    driver=None,
    gpus=Gpus(cuda=None, gpus=(), problem="libcuda.so.1: cannot open shared object file"),
    onnxruntime=None,
    versions={},
)  # fmt: skip

LAPTOP = Gpus(
    cuda="13.0",
    gpus=(
        Gpu(
            name="NVIDIA GeForce RTX 4060 Laptop GPU", compute_capability=(8, 9), memory_bytes=8 << 30, integrated=False
        ),
    ),
    problem=None,
)

ORIN = Gpus(
    cuda="13.2",
    gpus=(Gpu(name="Orin", compute_capability=(8, 7), memory_bytes=int(7.4e9), integrated=True),),
    problem=None,
)


def on_cpu(version: str = "1.32.0", **providers: str | None) -> OnnxRuntime:
    return OnnxRuntime(version=version, providers={CPU: None, **providers}, problem=None)


def finding(diagnosis: Diagnosis, name: str) -> Finding:
    return next(found for found in (*diagnosis.engines, *diagnosis.extras) if found.name == name)


def test_a_bare_machine_is_told_to_install_an_engine() -> None:
    diagnosis = diagnose(BARE)
    assert not diagnosis.can_run
    assert finding(diagnosis, "ONNX Runtime, CPU").step == install_command("cpu")
    assert finding(diagnosis, "NVIDIA driver").state == "idle", "no card, nothing to do"
    assert finding(diagnosis, "TensorRT").state == "idle"
    assert "no GPU is needed" in finding(diagnosis, "TensorRT-RTX").detail


def test_a_cpu_runs_bundles_and_says_when_int8_may_saturate() -> None:
    found = replace(BARE, onnxruntime=on_cpu(), versions={"onnxruntime": "1.32.0"})
    diagnosis = diagnose(found)
    assert diagnosis.can_run and diagnosis.targets[0].closest == "cpu"
    assert "saturate" in finding(diagnosis, "ONNX Runtime, CPU").detail
    vnni = replace(found, system=replace(found.system, instructions=("AVX2", "AVX-VNNI")))
    assert "saturate" not in finding(diagnose(vnni), "ONNX Runtime, CPU").detail


def test_both_packages_of_onnxruntime_are_seen() -> None:
    versions = {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}
    diagnosis = diagnose(replace(BARE, gpus=LAPTOP, onnxruntime=on_cpu(), versions=versions))
    both = finding(diagnosis, "ONNX Runtime, CPU")
    assert both.state == "broken" and "onnxruntime-gpu 1.31.1 are both installed" in both.detail
    assert both.step == f"pip uninstall -y onnxruntime onnxruntime-gpu && {install_command('gpu')}"
    assert diagnosis.can_run, "untidy, but it runs"


def test_an_engine_that_does_not_load_runs_nothing() -> None:
    broken = OnnxRuntime(version=None, providers={}, problem="the probe ended with signal 4: Illegal instruction")
    diagnosis = diagnose(replace(BARE, onnxruntime=broken, versions={"onnxruntime": "1.32.0"}))
    assert not diagnosis.can_run
    assert "signal 4" in finding(diagnosis, "ONNX Runtime, CPU").detail


def test_a_provider_that_was_compiled_in_may_not_open() -> None:
    reason = "Failed to load library libonnxruntime_providers_cuda.so with error: libcudnn.so.9: cannot open"
    opened = on_cpu("1.31.1", **{CUDA: reason})
    found = replace(BARE, gpus=LAPTOP, driver="580.65", onnxruntime=opened, versions={"onnxruntime-gpu": "1.31.1"})
    cuda = finding(diagnose(found), "ONNX Runtime, CUDA")
    assert cuda.state == "broken" and "libcudnn.so.9" in cuda.detail and "[cuda,cudnn]" in (cuda.step or "")
    works = replace(found, onnxruntime=on_cpu("1.31.1", **{CUDA: None}))
    assert finding(diagnose(works), "ONNX Runtime, CUDA").state == "ok"
    cpu_only = replace(found, onnxruntime=on_cpu(), versions={"onnxruntime": "1.32.0"})
    step = finding(diagnose(cpu_only), "ONNX Runtime, CUDA").step
    assert step == f"pip uninstall -y onnxruntime && {install_command('gpu')}"


def test_a_laptop_with_tensorrt_rtx() -> None:
    versions = {"tensorrt-rtx-cu13": "1.7.1.116", "cuda-bindings": "13.5.0"}
    diagnosis = diagnose(replace(BARE, gpus=LAPTOP, driver="580.65", versions=versions))
    assert diagnosis.can_run
    fit = diagnosis.targets[1]
    assert fit.closest is not None and "4060" in fit.closest and any("4090" in name for name in fit.others)
    without = {"tensorrt-rtx-cu13": "1.7.1.116"}
    diagnosis = diagnose(replace(BARE, gpus=LAPTOP, driver="580.65", versions=without))
    assert not diagnosis.can_run
    assert finding(diagnosis, "CUDA for Python").step == "pip install 'cuda-bindings==13.*'"
    assert finding(diagnosis, "TensorRT").state == "idle", "TensorRT-RTX serves it"
    older = diagnose(replace(BARE, gpus=replace(LAPTOP, cuda="12.8"), driver="570.1", versions=versions))
    bindings = finding(older, "CUDA for Python")
    assert bindings.state == "broken" and bindings.step == "pip install 'cuda-bindings==12.*'"


def test_tensorrt_rtx_builds_for_others_where_it_does_not_serve_the_gpu() -> None:
    h100 = Gpu(name="NVIDIA H100 80GB HBM3", compute_capability=(9, 0), memory_bytes=80 << 30, integrated=False)
    versions = {"tensorrt-rtx-cu13": "1.7.1.116", "cuda-bindings": "13.5.0"}
    diagnosis = diagnose(replace(BARE, gpus=Gpus(cuda="13.0", gpus=(h100,), problem=None), versions=versions))
    assert not diagnosis.can_run
    assert "does not serve this GPU" in finding(diagnosis, "TensorRT-RTX").detail
    assert finding(diagnosis, "TensorRT").step == f"pip install tensorrt-cu13 && {install_command('tensorrt')}"
    assert diagnosis.targets[1].closest == "h100"


def test_a_jetson_is_told_which_tensorrt_it_needs() -> None:
    board = replace(BARE.system, jetson="NVIDIA Jetson Orin Nano Developer Kit, L4T R39.2.0")
    found = replace(BARE, system=board, gpus=ORIN, driver="580.0")
    assert finding(diagnose(found), "TensorRT").step == "sudo apt install python3-libnvinfer"
    old = finding(diagnose(replace(found, versions={"tensorrt": "10.3.0"})), "TensorRT")
    assert old.state == "broken" and "JetPack 7.2" in (old.step or "")
    hidden = finding(diagnose(replace(found, other_tensorrt="10.16.2")), "TensorRT")
    assert hidden.state == "missing" and "--system-site-packages" in (hidden.step or "")
    assert finding(diagnose(replace(found, versions={"tensorrt": "10.16.2"})), "TensorRT").state == "ok"
    no_wheels = {"tensorrt-rtx": (Need(name="tensorrt-rtx-cu13", at_least=(1, 7), available=False),)}
    arm = replace(BARE, needs=no_wheels)
    assert finding(diagnose(arm), "TensorRT-RTX").detail == "there are no wheels for this machine"
    closest = diagnose(found).targets[1].closest
    assert closest is not None and "nano" in closest


def test_a_card_without_a_driver_and_a_driver_without_a_card() -> None:
    card = replace(BARE, system=replace(BARE.system, nvidia_card=True))
    assert finding(diagnose(card), "NVIDIA driver").state == "missing"
    gone = Gpus(cuda="13.0", gpus=(), problem="cuInit: no CUDA-capable device is detected (error 100)")
    driver = finding(diagnose(replace(BARE, gpus=gone)), "NVIDIA driver")
    assert driver.state == "broken" and "error 100" in driver.detail


def test_extras_name_what_they_lack() -> None:
    needs = {
        "export": (Need(name="onnx", at_least=(1, 19), available=True),),
        "eval": (Need(name="no-such-package", at_least=(), available=True),),
        "play": (Need(name="click", at_least=(8,), available=True),),
        "train": (Need(name="numpy", at_least=(99,), available=True),),
        "video": (Need(name="no-such-package", at_least=(), available=False),),
    }
    diagnosis = diagnose(replace(BARE, needs=needs, portaudio=False))
    assert finding(diagnosis, "eval").step == install_command("eval")
    assert "no-such-package is missing" in finding(diagnosis, "eval").detail
    assert "PortAudio" in finding(diagnosis, "play").detail
    assert "is older than 99" in finding(diagnosis, "train").detail
    assert finding(diagnosis, "video").state == "ok", "no wheel for this machine, so nobody can ask for it"


class FakeDriver:
    """libcuda.so with one GPU, or with an error."""

    def __init__(self, error: int = 0) -> None:
        self.error = error

    def cuDriverGetVersion(self, number: Any) -> int:
        number._obj.value = 13020  # noqa: SLF001
        return 0

    def cuInit(self, flags: int) -> int:
        return self.error

    def cuDeviceGetCount(self, number: Any) -> int:
        number._obj.value = 1  # noqa: SLF001
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index  # noqa: SLF001
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        name.value = b"NVIDIA L4"
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, device: Any) -> int:
        size._obj.value = 24 << 30  # noqa: SLF001
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = {75: 8, 76: 9, 18: 0}[attribute]  # noqa: SLF001
        return 0

    def cuGetErrorString(self, code: int, words: Any) -> int:
        words._obj.value = ctypes.c_char_p(b"no CUDA-capable device is detected").value  # noqa: SLF001
        return 0


def test_the_driver_is_asked() -> None:
    found = read_gpus(FakeDriver())
    assert found["cuda"] == "13.2" and found["problem"] is None
    assert found["gpus"] == [
        {"name": "NVIDIA L4", "compute_capability": "8.9", "memory_bytes": 24 << 30, "integrated": False}
    ]
    failed = read_gpus(FakeDriver(error=100))
    assert failed["gpus"] == [] and failed["cuda"] == "13.2"
    assert failed["problem"] == "cuInit: no CUDA-capable device is detected (error 100)"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import os; os.kill(os.getpid(), 11)", "signal 11"),
        ("raise ImportError('libcudart')", "ImportError: libcudart"),
        ("print('no JSON')", "exit code 0"),
        ("import time; time.sleep(60)", "no result within"),
    ],
)
def test_a_probe_that_dies_is_a_finding(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "probe.py"
    file.write_text(script)
    monkeypatch.setattr(cuda_probe, "__file__", str(file))
    monkeypatch.setattr(probes, "_TIMEOUT_S", 0.5)
    gpus, _ = probes.probe(onnxruntime=False)
    assert gpus.gpus == () and said in (gpus.problem or "")


def test_system_files_are_read(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": "processor : 0\nFeatures : fp asimd asimddp i8mm\nprocessor : 1\n",
        "proc/meminfo": "MemTotal:  8000000 kB\nMemAvailable:  5000000 kB\n",
        "sys/fs/cgroup/memory.max": "4096000000\n",
        "etc/os-release": 'PRETTY_NAME="Ubuntu 24.04.4 LTS"\n',
        "etc/nv_tegra_release": "# R39 (release), REVISION: 2.0, GCID: 1, BOARD: generic\n",
        "proc/device-tree/model": "NVIDIA Jetson Orin NX\0",
        "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.65.06  Release\n",
        "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    system = read_system(tmp_path)
    assert system.instructions == ("NEON", "NEON dot", "I8MM") and system.multiplies_int8
    assert system.memory_bytes == 4096000000 and system.free_bytes == 4096000000
    assert system.jetson == "NVIDIA Jetson Orin NX, L4T R39.2.0" and system.nvidia_card
    assert system.system.startswith("Ubuntu 24.04.4 LTS")
    assert driver_version(tmp_path) == "580.65.06"
    empty = read_system(tmp_path / "nothing")
    assert empty.memory_bytes is None and empty.jetson is None and driver_version(tmp_path / "nothing") is None
