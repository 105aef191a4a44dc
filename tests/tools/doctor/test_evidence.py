"""The evidence about this machine."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from click.testing import CliRunner

from unimoe.cli.group import cli
from unimoe_tools.doctor.evidence import gather


def test_jetpacks_tensorrt_is_found_beside_this_python(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/python3.12/dist-packages/tensorrt-10.16.2.10.dist-info").mkdir(parents=True)
    assert gather(tmp_path).other_tensorrt == "10.16.2.10"


def test_this_machine() -> None:
    """The tests need onnxruntime, so bundles run here. The command never imports an engine into its own process."""
    started = time.perf_counter()
    done = CliRunner().invoke(cli, ["doctor", "--json"])
    assert done.exit_code == 0, done.output
    assert time.perf_counter() - started < 30
    told = json.loads(done.stdout)
    assert told["can_run"] and told["machine"]["cores"] >= 1
    assert told["machine"]["python"].endswith(sys.version.split()[0])
    shown = CliRunner().invoke(cli, ["doctor"])
    assert shown.exit_code == 0 and "bundles can run here" in shown.output
