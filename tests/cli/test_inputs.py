"""`unimoe inputs`: Polygraphy runs a stored graph on its real inputs and gets the oracle's outputs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.engines import one_layer, random_bundle
from unimoe.cli.inputs import inputs
from unimoe_runtime.errors import BundleError

pytest.importorskip("polygraphy")

_POLYGRAPHY = "import sys; from polygraphy.tools import main; sys.exit(main())"


def polygraphy(*arguments: str, rtx: bool = False) -> str:
    """The output of Polygraphy's command line, which must succeed."""
    environment = {**os.environ, "POLYGRAPHY_USE_TENSORRT_RTX": "1" if rtx else "0"}
    run = subprocess.run(
        [sys.executable, "-c", _POLYGRAPHY, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.slow
def test_polygraphy_builds_an_expert_as_it_lies_without_a_gpu(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    bundle = random_bundle(tmp_path, one_layer(), "float16")
    graph, engine = str(bundle.path / bundle.graphs["layers.0.expert.0"].file), tmp_path / "expert.engine"
    assert "fully supported" in polygraphy("inspect", "capability", graph, rtx=True)
    shapes = [
        word
        for name, rows in (("min", 1), ("opt", 2), ("max", 128))
        for word in (
            f"--trt-{name}-shapes", f"accumulator_NC:[{rows},64]", f"expert_input_NC:[{rows},64]",
            f"weight_N1:[{rows},1]",
        )
    ]  # fmt: skip
    polygraphy(
        "convert", graph, "--convert-to", "trt", "--compute-capabilities", "8.9", *shapes, "-o", str(engine), rtx=True
    )
    assert engine.stat().st_size > 10_000


@pytest.mark.slow
def test_polygraphy_runs_an_expert_on_real_inputs_and_compares(tmp_path: Path) -> None:
    bundle = random_bundle(tmp_path, one_layer())
    files = [str(tmp_path / "inputs.json"), str(tmp_path / "outputs.json")]
    arguments = [str(bundle.path), "--graph", "layers.0.expert.1", "-o", files[0], "--outputs", files[1]]
    done = CliRunner().invoke(inputs, arguments, catch_exceptions=False)
    told, shown = done.output.splitlines()  # without Polygraphy's own lines
    assert done.exit_code == 0 and told == f"{files[0]}: 3 inputs of layers.0.expert.1"
    assert shown.startswith("next: `polygraphy run ")
    command = shown.removeprefix("next: ").strip("`").split()[2:]
    assert "PASSED" in polygraphy("run", *command, "--atol", "1e-4", "--rtol", "1e-4")
    graph, inputs_file = command[0], files[0]
    assert "PASSED" in polygraphy(
        "run", graph, "--onnxrt", "--onnx-outputs", "mark", "all", "--load-inputs", inputs_file
    )
    assert "MatMul" in polygraphy("inspect", "model", graph, "--show", "layers", "attrs")
    missing = CliRunner().invoke(inputs, [str(bundle.path), "--graph", "layers.9.trunk", "-o", files[0]])
    assert isinstance(missing.exception, BundleError) and "layers.9.trunk" in str(missing.exception)
    assert "it has head, layers.0.expert.0 to layers.0.expert.1, layers.0.trunk" in str(missing.exception)
