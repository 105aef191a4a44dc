"""The doctor on synthetic machines."""

from __future__ import annotations

from dataclasses import replace

from unimoe_runtime.hardware.probes import Gpu, Gpus, OnnxRuntime
from unimoe_runtime.hardware.system import System
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
