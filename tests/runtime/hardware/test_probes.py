"""Probes in their own processes: what dies, hangs or talks nonsense becomes a problem, not an exception."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimoe_runtime.hardware import cuda_probe, probes

ANSWERS = {
    "import os; os.abort()": "signal 6",
    "print('nonsense')": "exit code 0",
    "raise SystemExit('no driver')": "exit code 1: no driver",
    "print('[]')": "exit code 0",
    "import time; time.sleep(60)": "no result within",
}


@pytest.mark.parametrize("program", ANSWERS)
def test_a_probe_that_fails_is_a_problem(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "probe.py").write_text(program)
    monkeypatch.setattr(cuda_probe, "__file__", str(tmp_path / "probe.py"))
    monkeypatch.setattr(probes, "_TIMEOUT_S", 2.0)
    gpus, runtime = probes.probe(onnxruntime=False)
    assert runtime is None and gpus.gpus == () and gpus.problem is not None and ANSWERS[program] in gpus.problem
    assert "\n" not in gpus.problem


def test_no_process_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")
    gpus, _ = probes.probe(onnxruntime=False)
    assert gpus.problem is not None and "the probe's process could not be started" in gpus.problem
