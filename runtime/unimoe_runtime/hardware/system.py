"""The machine without its GPUs: system, Python, processor, memory, and whether it is a Jetson."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Instruction sets that determine the speed of a product, by their names in Linux.
_INSTRUCTIONS: Mapping[str, str] = {
    "avx2": "AVX2", "avx512f": "AVX-512", "avx_vnni": "AVX-VNNI", "avx512_vnni": "AVX512-VNNI", "amx_int8": "AMX",
    "asimd": "NEON", "asimddp": "NEON dot", "i8mm": "I8MM", "asimdhp": "FP16", "bf16": "BF16", "sve": "SVE",
}  # fmt: skip
_INT8_PRODUCTS = ("AVX-VNNI", "AVX512-VNNI", "AMX", "NEON dot", "I8MM")
_NVIDIA, _DISPLAY = "0x10de", "0x03"


@dataclass(frozen=True, kw_only=True)
class System:
    """`memory_bytes`: the most that this process may use. `jetson`: the board's name, with its L4T release."""

    system: str
    python: str
    cpu: str
    cores: int
    instructions: tuple[str, ...]
    memory_bytes: int | None
    free_bytes: int | None
    jetson: str | None
    nvidia_card: bool

    @property
    def multiplies_int8(self) -> bool:
        """Whether the processor sums int8 products without intermediate saturation."""
        return any(name in self.instructions for name in _INT8_PRODUCTS)


def read_system(root: Path = Path("/")) -> System:
    """The system that the files under `root` describe; None for unknown fields."""
    information = _fields(root / "proc/cpuinfo")
    known = (information.get("flags") or information.get("Features") or "").split()
    memory = _fields(root / "proc/meminfo")
    total, free = _kilobytes(memory.get("MemTotal")), _kilobytes(memory.get("MemAvailable"))
    limit = _text(root / "sys/fs/cgroup/memory.max")
    if limit.isdigit() and total is not None and int(limit) < total:
        total = int(limit)
        free = None if free is None else min(free, total)
    release = _fields(root / "etc/os-release", "=").get("PRETTY_NAME", platform.system()).strip('"')
    return System(
        system=f"{release}, {platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        cpu=information.get("model name") or platform.processor() or platform.machine(),
        cores=available_cores(),
        instructions=tuple(name for flag, name in _INSTRUCTIONS.items() if flag in known),
        memory_bytes=total,
        free_bytes=free,
        jetson=_jetson(root),
        nvidia_card=any(map(_is_nvidia_card, (root / "sys/bus/pci/devices").glob("*"))),
    )


def available_cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def driver_version(root: Path = Path("/")) -> str | None:
    """Version of NVIDIA's kernel driver, such as "580.65.06"; None if unknown (as in WSL)."""
    for line in _text(root / "proc/driver/nvidia/version").splitlines():
        if line.startswith("NVRM version:"):
            return next((word for word in line.split() if word[:1].isdigit() and "." in word), None)
    return None


def _jetson(root: Path) -> str | None:
    release = _text(root / "etc/nv_tegra_release")
    model = _text(root / "proc/device-tree/model").rstrip("\0")
    if not release and "jetson" not in model.lower():
        return None
    # "# R36 (release), REVISION: 4.7, GCID: …"
    words = release.replace(",", " ").split()
    if "REVISION:" in words and len(words) > 1:
        return f"{model or 'Jetson'}, L4T {words[1]}.{words[words.index('REVISION:') + 1]}"
    return model or "Jetson"


def _is_nvidia_card(device: Path) -> bool:
    return _text(device / "vendor") == _NVIDIA and _text(device / "class").startswith(_DISPLAY)


def _fields(path: Path, separator: str = ":") -> dict[str, str]:
    """Lines "name: value"; the first of a repeated name counts."""
    fields: dict[str, str] = {}
    for line in _text(path).splitlines():
        name, found, value = line.partition(separator)
        if found:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _kilobytes(text: str | None) -> int | None:
    number = (text or "").split()[:1]
    return int(number[0]) * 1024 if number and number[0].isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
