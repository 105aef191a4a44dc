"""Evidence about this machine as plain values. `diagnosis` evaluates them; tests construct them."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unimoe_runtime.hardware.probes import Gpus, OnnxRuntime, probe
from unimoe_runtime.hardware.system import System, driver_version, read_system
from unimoe_tools.doctor.packages import Need, extras, installed

EXTRAS: Mapping[str, str] = {
    "": "everything",
    "export": "unimoe export, unimoe build",
    "calibrate": "unimoe calibrate",
    "serve": "unimoe serve",
    "video": "unimoe synth --video",
    "play": "unimoe synth --play",
    "eval": "unimoe eval",
    "train": "unimoe train, unimoe verify --against CHECKPOINT",
}
"""Extras other than engines, with the commands that need them."""

# The package names of a library; the first installed one counts.
TENSORRT = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu13-bindings", "tensorrt-cu12-bindings")
TENSORRT_RTX = ("tensorrt-rtx-cu13", "tensorrt-rtx", "tensorrt-rtx-cu12")
CUDA_PYTHON = "cuda-bindings"
_PORTAUDIO = {"linux": "libportaudio.so.2"}  # on other systems sounddevice's wheels include it


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """`versions`: of installed packages. `other_tensorrt`: JetPack's or apt's, which only the system's Python can
    import."""

    system: System
    driver: str | None
    gpus: Gpus
    onnxruntime: OnnxRuntime | None
    versions: Mapping[str, str]
    needs: Mapping[str, tuple[Need, ...]] = field(default_factory=dict)
    other_tensorrt: str | None = None
    portaudio: bool = True

    def version(self, names: tuple[str, ...]) -> str | None:
        """The version of the first installed package of these names; None without any."""
        return next((self.versions[name] for name in names if name in self.versions), None)


def gather(root: Path = Path("/")) -> Evidence:
    """Gather the evidence. It takes as long as loading the slowest library, and raises no error for missing parts."""
    names = ("onnxruntime", "onnxruntime-gpu", *TENSORRT, *TENSORRT_RTX, CUDA_PYTHON)
    versions = {name: found for name in names if (found := installed(name))}
    gpus, onnxruntime = probe(onnxruntime="onnxruntime" in versions or "onnxruntime-gpu" in versions)
    return Evidence(
        system=read_system(root),
        driver=driver_version(root),
        gpus=gpus,
        onnxruntime=onnxruntime,
        versions=versions,
        needs=extras((*EXTRAS, "tensorrt-rtx")),
        other_tensorrt=None if any(name in versions for name in TENSORRT) else _system_tensorrt(root),
        portaudio=_loads(_PORTAUDIO.get(sys.platform)),
    )


def _system_tensorrt(root: Path) -> str | None:
    """The version from the metadata's folder name, tensorrt-10.16.2.dist-info."""
    for folder in sorted((root / "usr/lib").glob("python3*/dist-packages/tensorrt-*-info")):
        return folder.name.split("-")[1].removesuffix(".dist").removesuffix(".egg")
    return None


def _loads(library: str | None) -> bool:
    if library is None:
        return True
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
