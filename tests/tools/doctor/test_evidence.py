"""The evidence about this machine."""

from __future__ import annotations

from pathlib import Path

from unimoe_tools.doctor.evidence import gather


def test_jetpacks_tensorrt_is_found_beside_this_python(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/python3.12/dist-packages/tensorrt-10.16.2.10.dist-info").mkdir(parents=True)
    assert gather(tmp_path).other_tensorrt == "10.16.2.10"
