"""Energy and device memory are those of this machine and process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unimoe_tools.profiling.machine import Energy, read_device_bytes


def test_energy_is_that_of_the_packages(tmp_path: Path) -> None:
    def write(zone: str, name: str, energy_uj: int) -> None:
        (tmp_path / zone).mkdir(exist_ok=True)
        for file, content in (("name", name), ("energy_uj", energy_uj), ("max_energy_range_uj", 10_000_000)):
            (tmp_path / zone / file).write_text(f"{content}\n")

    assert Energy(tmp_path).joules() is None, "a machine that does not tell"
    for zone, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:1", "psys")):
        write(zone, name, 9_000_000)
    energy = Energy(tmp_path)
    write("intel-rapl:0", "package-0", 1_000_000)  # the counter wrapped around
    assert energy.joules() == 2.0


def test_device_memory_is_that_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_device_bytes() is None, "a machine without nvidia-smi"
    smi = tmp_path / "nvidia-smi"
    for rows, expected in (
        (f"{os.getpid()}, 100\n1, 7\n{os.getpid()}, 20", 120 << 20),
        ("1, 7", None),
        (f"{os.getpid()}, [N/A]", None),
    ):
        smi.write_text(f"#!/bin/sh\nprintf '%s\\n' '{rows}'\n")
        smi.chmod(0o755)
        assert read_device_bytes() == expected
