"""The conditions of a measurement: the machine, its background load, its memory and energy.

Linux reports all of them. A figure that the system does not report is None.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unimoe_runtime.hardware.system import available_cores, read_system
from unimoe_tools.doctor.packages import installed

# Threads of a pool continue to spin after their work (ONNX Runtime's for about 40 ms of CPU time, OpenBLAS's for 20),
# and later work would share its cores with them. A window without CPU time of this process shows that all sleep.
_SETTLE_WINDOW_S = 0.02
_SETTLE_AT_MOST_S = 1.0
_TELL_AT_MOST_S = 10.0
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "numpy")


def settle() -> None:
    """Wait until no thread of this process spins."""
    deadline = time.perf_counter() + _SETTLE_AT_MOST_S
    while time.perf_counter() < deadline:
        used = time.process_time()
        time.sleep(_SETTLE_WINDOW_S)
        if time.process_time() - used < _SETTLE_WINDOW_S / 10:
            return


def describe_machine() -> dict[str, Any]:
    """The machine's name, cores, clocks, caches, versions, load and time, as one flat record."""
    return {
        "cpu": read_system().cpu,
        "cores": available_cores(),
        "clock_mhz": _clock_mhz(),
        "last_level_cache_bytes": last_level_cache_bytes(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: found for package in _PACKAGES if (found := installed(package))},
        "unimoe": installed("unimoe"),
        "load_average": os.getloadavg()[0],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _clock_mhz() -> float | None:
    clocks = [float(line.split(":", 1)[1]) for line in _lines("/proc/cpuinfo") if line.startswith("cpu MHz")]
    return max(clocks, default=None)


def last_level_cache_bytes() -> int | None:
    """The largest cache that core 0 shares."""
    sizes = [_lines(path) for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    return max(
        (int(text[0][:-1]) * units[text[0][-1]] for text in sizes if text and text[0][-1] in units), default=None
    )


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Host memory of this process, in bytes: resident now, its anonymous and file-backed parts, and the peak."""

    resident: int
    anonymous: int
    file: int
    peak: int


def read_memory() -> Memory | None:
    """This process's memory, from /proc/self/status; None where there is no such file."""
    fields = {}
    for line in _lines("/proc/self/status"):
        name, _, rest = line.partition(":")
        if name in ("VmRSS", "RssAnon", "RssFile", "VmHWM"):
            fields[name] = int(rest.split()[0]) * 1024
    if len(fields) < 4:
        return None
    return Memory(resident=fields["VmRSS"], anonymous=fields["RssAnon"], file=fields["RssFile"], peak=fields["VmHWM"])


def read_device_bytes() -> int | None:
    """NVIDIA device memory of this process, over all devices, from nvidia-smi; None where it is not reported."""
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_TELL_AT_MOST_S, check=True).stdout
        rows = [line.split(",") for line in told.splitlines()]
        held = [int(used) << 20 for process, used in rows if int(process) == os.getpid()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return sum(held) or None


class Energy:
    """Energy of the processor's packages, from their RAPL counters; `joules` counts since this object was made."""

    def __init__(self, folder: Path = Path("/sys/class/powercap")) -> None:
        # Beside the packages there may be a counter of the whole platform, which includes them.
        zones = [path.parent for path in sorted(folder.glob("intel-rapl:*/energy_uj"))]
        packages = [zone for zone in zones if "".join(_lines(zone / "name")).startswith("package")]
        self._counters = [zone / "energy_uj" for zone in packages]
        self._start = self._read()

    def joules(self) -> float | None:
        """None where the machine has no counters, or this user must not read them."""
        now = self._read()
        if self._start is None or now is None:
            return None
        used_uj = 0
        for path, before, after in zip(self._counters, self._start, now, strict=True):
            around = int(_lines(path.with_name("max_energy_range_uj"))[0]) if after < before else 0
            used_uj += after - before + around
        return used_uj / 1e6

    def _read(self) -> list[int] | None:
        values = [_lines(path) for path in self._counters]
        return [int(lines[0]) for lines in values] if values and all(values) else None


class BackgroundLoad:
    """Cores that other processes and the host kept busy, on average since this object was made."""

    def __init__(self) -> None:
        self._start_s, self._others_s = time.perf_counter(), _others_s()

    def cores(self) -> float | None:
        others_s = _others_s()
        if self._others_s is None or others_s is None:
            return None
        return max(0.0, (others_s - self._others_s) / (time.perf_counter() - self._start_s))


def _others_s() -> float | None:
    """CPU seconds of all processes but this one."""
    all_s = machine_cpu_s()
    return None if all_s is None else all_s - time.process_time()


def machine_cpu_s() -> float | None:
    """CPU seconds of all processes, including those that the host took from this machine (steal)."""
    lines = _lines("/proc/stat")
    if not lines:
        return None
    user, nice, system, _idle, _wait, *interrupts_and_steal = map(int, lines[0].split()[1:9])
    return sum((user, nice, system, *interrupts_and_steal)) / os.sysconf("SC_CLK_TCK")


def process_cpu_s(process: int) -> float | None:
    """CPU seconds of another process; None where it has ended, or the machine does not report them."""
    lines = _lines(f"/proc/{process}/stat")
    if not lines:
        return None
    user, system = lines[0].rpartition(")")[2].split()[11:13]  # the name before it may contain any character
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _lines(path: str | Path) -> list[str]:
    """A file's lines; empty where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
