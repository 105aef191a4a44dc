"""The import layers of docs/explanation/architecture.md, checked in fresh processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUNTIME_MODULES = sorted(
    ".".join(path.relative_to(ROOT / "runtime").with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "runtime").rglob("*.py")
)

ON_A_GPU = {"tensorrt", "tensorrt_rtx", "cuda"}


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    script = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    path = [str(ROOT), str(ROOT / "export"), str(ROOT / "runtime"), str(ROOT / "calibration")]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path}; {script}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


def test_the_whole_runtime_imports_neither_torch_nor_our_other_packages() -> None:
    loaded = modules_after("import " + ", ".join(RUNTIME_MODULES))
    assert not loaded & {"torch", "onnx", "onnx_ir", "unimoe", "unimoe_export", "unimoe_calibration"}


@pytest.mark.parametrize("module", ["unimoe_runtime", "unimoe_runtime.synthesis.synthesizer"])
def test_engines_are_not_imported_before_they_are_asked_for(module: str) -> None:
    assert not modules_after(f"import {module}") & {"onnxruntime", *ON_A_GPU, "torch"}


def test_the_whole_runtime_imports_without_tensorrt_and_cuda() -> None:
    hidden = f"sys.modules.update(dict.fromkeys({sorted(ON_A_GPU)}))"  # a None entry makes the import fail
    assert "unimoe_runtime" in modules_after(f"{hidden}; import " + ", ".join(RUNTIME_MODULES))


@pytest.mark.slow
def test_export_needs_no_torch() -> None:
    assert not modules_after("import unimoe_export.exporter, unimoe_export.engines.building") & {"torch", "unimoe"}
    assert not modules_after("import unimoe.cli.export, unimoe.cli.build") & {"torch"}


@pytest.mark.slow
def test_calibration_needs_no_torch() -> None:
    loaded = modules_after("import unimoe_calibration.calibration")
    assert not loaded & {"torch", "unimoe", "unimoe_export", "matplotlib"}
    assert not modules_after("import unimoe.cli.calibrate") & {"torch", "matplotlib"}


def test_help_imports_only_click() -> None:
    loaded = modules_after("import unimoe.cli.group; unimoe.cli.group.cli.main(['--help'], standalone_mode=False)")
    assert not loaded & {"torch", "numpy", "onnx", "onnxruntime", "rich", "unimoe_runtime"}
