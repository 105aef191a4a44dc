"""`unimoe inputs`: Polygraphy runs a stored graph on its real inputs and gets the oracle's outputs."""

from __future__ import annotations

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


@pytest.mark.slow
def test_polygraphy_runs_an_expert_on_real_inputs_and_compares(tmp_path: Path) -> None:
    bundle = random_bundle(tmp_path, one_layer())
    files = [str(tmp_path / "inputs.json"), str(tmp_path / "outputs.json")]
    arguments = [str(bundle.path), "--graph", "layers.0.expert.1", "-o", files[0], "--outputs", files[1]]
    done = CliRunner().invoke(inputs, arguments, catch_exceptions=False)
    shown = done.output.splitlines()[-1]
    assert done.exit_code == 0 and shown.startswith("polygraphy run ")
    command = shown.split()[2:]
    run = subprocess.run(
        [sys.executable, "-c", _POLYGRAPHY, "run", *command, "--atol", "1e-4", "--rtol", "1e-4"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0 and "PASSED" in run.stdout, run.stdout + run.stderr
    missing = CliRunner().invoke(inputs, [str(bundle.path), "--graph", "layers.9.trunk", "-o", files[0]])
    assert isinstance(missing.exception, BundleError) and "layers.9.trunk" in str(missing.exception)
