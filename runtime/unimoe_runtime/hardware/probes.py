"""Probes that may crash, hang or be slow. They run at the same time, each in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unimoe_runtime.hardware import cuda_probe

_TIMEOUT_S = 30.0
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU as the driver describes it. `integrated`: it shares the host's memory."""

    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    integrated: bool


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """`cuda`: the newest CUDA that the driver supports; None without a driver. `problem`: why there are no GPUs."""

    cuda: str | None
    gpus: tuple[Gpu, ...]
    problem: str | None


@dataclass(frozen=True, kw_only=True)
class OnnxRuntime:
    """`providers`: None for each that opens, else the reason. `problem`: why ONNX Runtime cannot be imported."""

    version: str | None
    providers: Mapping[str, str | None]
    problem: str | None


def gpus_here() -> Gpus:
    """The GPUs, probed in this process, for callers that use the GPU anyway."""
    return _gpus(cuda_probe.read_gpus())


def probe(*, onnxruntime: bool) -> tuple[Gpus, OnnxRuntime | None]:
    """GPUs, and ONNX Runtime's providers if it is installed. A probe that dies sets `problem` and raises nothing."""
    scripts = [["-I", "-S", cuda_probe.__file__]]
    if onnxruntime:
        scripts.append(["-P", str(_PACKAGE / "backends" / "onnxruntime" / "probe.py")])
    started = [_start(script) for script in scripts]
    results = [_finish(process) for process in started]
    gpus = _gpus({"cuda": None, "gpus": [], "problem": None, **results[0]})
    if not onnxruntime:
        return gpus, None
    found = results[1]
    return gpus, OnnxRuntime(
        version=found.get("version"), providers=found.get("providers", {}), problem=found.get("problem")
    )


def _start(arguments: list[str]) -> subprocess.Popen[str] | OSError:
    try:
        return subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="replace",
        )  # fmt: skip
    except OSError as error:
        return error


def _finish(process: subprocess.Popen[str] | OSError) -> dict[str, Any]:
    if isinstance(process, OSError):
        return {"problem": f"the probe's process could not be started ({process.strerror})"}
    try:
        output, errors = process.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {"problem": f"no result within {_TIMEOUT_S:.0f} s"}
    try:
        result = json.loads(output)
    except ValueError:
        result = None
    if process.returncode == 0 and isinstance(result, dict):
        return result
    last = (errors.strip().splitlines() or ["no message"])[-1]
    how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
    return {"problem": f"the probe ended with {how}: {last}"}


def _gpus(found: Mapping[str, Any]) -> Gpus:
    gpus = []
    for gpu in found["gpus"]:
        major, _, minor = gpu["compute_capability"].partition(".")
        gpus.append(Gpu(**{**gpu, "compute_capability": (int(major), int(minor))}))
    return Gpus(cuda=found["cuda"], gpus=tuple(gpus), problem=found["problem"])
