"""From evidence to findings: what runs on this machine, what does not, and one next step for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from unimoe_runtime.hardware.probes import Gpu
from unimoe_runtime.hardware.targets import MIN_TENSORRT, RTX_CAPABILITIES, Target, open_targets
from unimoe_runtime.install import install_command
from unimoe_tools.doctor.evidence import CUDA_PYTHON, EXTRAS, TENSORRT, TENSORRT_RTX, Evidence
from unimoe_tools.doctor.packages import numbers

State = Literal["ok", "missing", "broken", "idle"]
"""idle: this machine has no use for it, so there is nothing to do."""

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_BOTH = "pip uninstall -y onnxruntime onnxruntime-gpu && {}"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line: its subject, its state, and the next step if there is one."""

    name: str
    state: State
    detail: str
    step: str | None = None


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A target of the table like this machine: `closest` by name and memory, the others by their device kind."""

    device: str
    closest: str | None
    others: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """`can_run`: at least one installed engine can run bundles."""

    can_run: bool
    machine: dict[str, Any]
    engines: tuple[Finding, ...]
    targets: tuple[Fit, ...]
    extras: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def diagnose(found: Evidence) -> Diagnosis:
    """Evaluate the evidence. Raises ConfigError where the user's own table of targets is damaged."""
    engines = (_onnxruntime(found), _driver(found), *_gpu_engines(found))
    states = {engine.name: engine.state for engine in engines}
    flavours = [("TensorRT-RTX", _serves_rtx(found)), ("TensorRT", bool(found.gpus.gpus))]
    on_gpu = any(serves and states[flavour] == "ok" for flavour, serves in flavours)
    can_run = _opens(found, _CPU) or (on_gpu and states["CUDA for Python"] == "ok")
    machine = {**asdict(found.system), "driver": found.driver, **asdict(found.gpus)}
    return Diagnosis(
        can_run=can_run,
        machine=machine,
        engines=engines,
        targets=tuple(_fits(found)),
        extras=tuple(_extras(found)),
    )


def _opens(found: Evidence, provider: str) -> bool:
    opened = found.onnxruntime
    return opened is not None and provider in opened.providers and opened.providers[provider] is None


def _onnxruntime(found: Evidence) -> Finding:
    name, extra = "ONNX Runtime, CPU", "gpu" if found.gpus.gpus else "cpu"
    packages = [package for package in ("onnxruntime", "onnxruntime-gpu") if package in found.versions]
    opened = found.onnxruntime
    if opened is None or not packages:
        return Finding(name=name, state="missing", detail="not installed", step=install_command(extra))
    if len(packages) > 1:
        both = " and ".join(f"{package} {found.versions[package]}" for package in packages)
        detail = f"{both} are both installed, under one import name; what is imported is {opened.version or 'neither'}"
        return Finding(name=name, state="broken", detail=detail, step=_BOTH.format(install_command(extra)))
    if not _opens(found, _CPU):
        reason = opened.problem or opened.providers.get(_CPU) or "it has no CPU provider"
        return Finding(
            name=name, state="broken", detail=f"does not open: {reason}",
            step=f"pip install --force-reinstall {packages[0]}",
        )  # fmt: skip
    slow = "" if found.system.multiplies_int8 else "; no VNNI or dot products: sums of int8 may saturate, verify them"
    return Finding(name=name, state="ok", detail=f"{packages[0]} {opened.version}{slow}")


def _driver(found: Evidence) -> Finding:
    name, gpus = "NVIDIA driver", found.gpus
    if gpus.gpus:
        version = found.driver or "of unknown version"
        return Finding(name=name, state="ok", detail=f"{version}, serves CUDA up to {gpus.cuda}")
    if gpus.cuda is not None or found.driver is not None:
        detail = f"it is there and shows no GPU: {gpus.problem or 'none is visible'}"
        return Finding(
            name=name, state="broken", detail=detail,
            step="see what `nvidia-smi` says; after an update of the driver, reboot; in a container, give it the GPU",
        )  # fmt: skip
    if found.system.jetson or found.system.nvidia_card:
        where = found.system.jetson or "an NVIDIA card"
        return Finding(
            name=name, state="missing", detail=f"{where}, but no driver: {gpus.problem}",
            step="install NVIDIA's driver (Jetson: JetPack; in a container: start it with --gpus all)",
        )  # fmt: skip
    return Finding(name=name, state="idle", detail="no NVIDIA GPU found")


def _gpu_engines(found: Evidence) -> Iterator[Finding]:
    if found.gpus.gpus:
        yield _cuda_provider(found)
    else:
        yield Finding(name="ONNX Runtime, CUDA", state="idle", detail="no NVIDIA GPU to run on")
    yield _tensorrt_rtx(found)
    yield _tensorrt(found)
    yield _cuda_python(found)


def _cuda_python(found: Evidence) -> Finding:
    name, version = "CUDA for Python", found.versions.get(CUDA_PYTHON)
    if not found.gpus.gpus:
        return Finding(name=name, state="idle", detail="no NVIDIA GPU to run on")
    serves = numbers(found.gpus.cuda or "")
    major = f"{serves[0]}" if serves else ""
    step = f"pip install 'cuda-bindings=={major}.*'" if major else "pip install cuda-bindings"
    if version is None:
        detail = f"{CUDA_PYTHON} is not installed; --backend tensorrt and onnxruntime-cuda need it"
        return Finding(name=name, state="missing", detail=detail, step=step)
    if serves and numbers(version)[0] > serves[0]:
        detail = f"{CUDA_PYTHON} {version} is of a newer CUDA than the driver serves, {found.gpus.cuda}"
        return Finding(name=name, state="broken", detail=detail, step=step)
    return Finding(name=name, state="ok", detail=f"{CUDA_PYTHON} {version}")


def _cuda_provider(found: Evidence) -> Finding:
    name = "ONNX Runtime, CUDA"
    opened = found.onnxruntime
    if opened is None or _CUDA not in opened.providers:
        step = ("pip uninstall -y onnxruntime && " if opened else "") + install_command("gpu")
        return Finding(name=name, state="missing", detail="needs onnxruntime-gpu", step=step)
    reason = opened.providers[_CUDA]
    if reason is not None:
        return Finding(
            name=name, state="broken", detail=f"does not open: {reason}",
            step="pip install 'onnxruntime-gpu[cuda,cudnn]', CUDA's libraries as packages",
        )  # fmt: skip
    return Finding(name=name, state="ok", detail=f"onnxruntime-gpu {opened.version} opens it")


def _serves_rtx(found: Evidence) -> bool:
    return any(gpu.compute_capability in RTX_CAPABILITIES for gpu in found.gpus.gpus)


def _tensorrt_rtx(found: Evidence) -> Finding:
    name, version = "TensorRT-RTX", found.version(TENSORRT_RTX)
    here = "no GPU here" if not found.gpus.gpus else "it does not serve this GPU, TensorRT does"
    if version is not None:
        runs = "builds engines, and runs them" if _serves_rtx(found) else f"builds engines for other machines; {here}"
        return Finding(name=name, state="ok", detail=f"{version}: {runs}")
    if found.system.jetson or any(not need.available for need in found.needs.get("tensorrt-rtx", ())):
        return Finding(name=name, state="idle", detail="there are no wheels for this machine")
    return Finding(
        name=name, state="missing", detail="not installed; it builds engines, for that no GPU is needed",
        step=install_command("tensorrt-rtx", "export"),
    )  # fmt: skip


def _tensorrt(found: Evidence) -> Finding:
    name, version = "TensorRT", found.version(TENSORRT)
    first = ".".join(map(str, MIN_TENSORRT))
    jetson = found.system.jetson is not None
    serves = numbers(found.gpus.cuda or "")
    wheels = f"tensorrt-cu{serves[0]}" if serves else "tensorrt"
    newer = "update to JetPack 7.2 or newer" if jetson else f"pip install -U {wheels}"
    here = version or found.other_tensorrt
    if here is not None and numbers(here) < MIN_TENSORRT:
        detail = f"{here} cannot parse our graphs, {first} can"
        return Finding(name=name, state="broken", detail=detail, step=newer)
    if version is not None:
        return Finding(name=name, state="ok" if found.gpus.gpus else "idle", detail=version)
    if found.other_tensorrt is not None:
        detail = f"{found.other_tensorrt} belongs to the system's Python, this environment does not see it"
        return Finding(
            name=name, state="missing", detail=detail,
            step="create the environment again with `python3 -m venv --system-site-packages`",
        )  # fmt: skip
    if not found.gpus.gpus and not jetson:
        return Finding(name=name, state="idle", detail="no NVIDIA GPU to build or run on")
    if _serves_rtx(found):
        return Finding(name=name, state="idle", detail="not installed; TensorRT-RTX serves this GPU")
    step = "sudo apt install python3-libnvinfer" if jetson else f"pip install {wheels} && {install_command('tensorrt')}"
    return Finding(name=name, state="missing", detail="not installed; it builds on the GPU that it runs on", step=step)


def _fits(found: Evidence) -> Iterator[Fit]:
    targets = open_targets()
    cpus = tuple(name for name, target in targets.items() if target.compute_capability is None)
    yield Fit(device=found.system.cpu, closest=next(iter(cpus), None), others=cpus[1:])
    for gpu in found.gpus.gpus:
        same = [target for target in targets.values() if target.compute_capability == gpu.compute_capability]
        said = f"{gpu.name} {found.system.jetson or ''}".lower()
        ranked = [target.name for target in sorted(same, key=lambda target: _unlike(target, gpu, said))]
        yield Fit(device=gpu.name, closest=ranked[0] if ranked else None, others=tuple(ranked[1:]))


def _unlike(target: Target, gpu: Gpu, said: str) -> tuple[int, float]:
    """Number of words of the target's title that the GPU's name lacks, then the difference of their memories."""
    words = [word for word in target.title.lower().split() if word != "gb" and not word.isdecimal()]
    named = [word for word in target.title.lower().split() if word.isdecimal() and len(word) >= 4]
    missing = sum(word not in said.split() for word in [*words, *named])
    return missing, abs((target.memory_gb or 0.0) - gpu.memory_bytes / 1e9)


def _extras(found: Evidence) -> Iterator[Finding]:
    for extra, purpose in EXTRAS.items():
        if extra not in found.needs:
            continue
        faults = [fault for need in found.needs[extra] if need.available and (fault := need.fault())]
        name = extra or "base"
        install = install_command(extra) if extra else f"{install_command()} --upgrade"
        if faults:
            yield Finding(name=name, state="missing", detail=f"{purpose}: {', '.join(faults)}", step=install)
        elif extra == "play" and not found.portaudio:
            detail = f"{purpose}: the PortAudio library is missing"
            yield Finding(name=name, state="missing", detail=detail, step="sudo apt install libportaudio2")
        else:
            yield Finding(name=name, state="ok", detail=purpose)
