"""The system as the files of a machine describe it, damaged ones included."""

from __future__ import annotations

from pathlib import Path

from unimoe_runtime.hardware.system import driver_version, read_system


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


def test_a_machine_without_any_of_the_files(tmp_path: Path) -> None:
    found = read_system(tmp_path)
    assert found.memory_bytes is None and found.jetson is None and not found.nvidia_card and found.instructions == ()
    assert driver_version(tmp_path) is None


def test_damaged_files_are_unknown_facts(tmp_path: Path) -> None:
    for name, content in {
        "proc/meminfo": b"MemTotal: \xff\xfe kB\nMemAvailable:\n", "proc/cpuinfo": b"\0\0flags",
        "etc/os-release": b"\xff",
        "sys/fs/cgroup/memory.max": b"max", "proc/driver/nvidia/version": b"NVRM version:\n",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    found = read_system(tmp_path)
    assert found.memory_bytes is None and found.free_bytes is None
    assert driver_version(tmp_path) is None


def test_a_container_has_the_memory_of_its_group(tmp_path: Path) -> None:
    for name, content in {
        "proc/meminfo": "MemTotal: 4000 kB\nMemAvailable: 3000 kB\n", "sys/fs/cgroup/memory.max": "1024000\n",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    found = read_system(tmp_path)
    assert (found.memory_bytes, found.free_bytes) == (1_024_000, 1_024_000)
