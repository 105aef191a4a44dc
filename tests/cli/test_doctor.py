"""`unimoe doctor`: the engines that run here, as words and as JSON."""

from __future__ import annotations

import json
import platform

from tests.command_line import run


def test_this_machine_can_run_bundles() -> None:
    """The tests need onnxruntime, so bundles run here."""
    shown = run("doctor")
    assert shown.returncode == 0, shown.stderr
    assert "ONNX Runtime, CPU" in shown.stdout and "bundles can run here" in shown.stdout
    found = json.loads(run("doctor", "--json").stdout)
    assert found["machine"]["cores"] >= 1 and found["machine"]["python"].endswith(platform.python_version())
    assert found["can_run"] and {engine["name"] for engine in found["engines"]} >= {"TensorRT", "NVIDIA driver"}
