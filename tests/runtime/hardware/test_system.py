"""The system as the files of a machine describe it, damaged ones included."""

from __future__ import annotations

from pathlib import Path

from unimoe_runtime.hardware.system import driver_version, read_system


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
