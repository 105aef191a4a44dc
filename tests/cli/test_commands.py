"""The command line: every command documents itself, and bad input gives one line and exit code 1 (2 for usage)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tests.command_line import PACKAGE_ROOTS, assert_one_line, run
from unimoe.cli.group import cli


def _leaves(group: click.Group, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _leaves(command, *names, name)
        else:
            yield (*names, name), command


def test_every_command_takes_json() -> None:
    without = {
        names for names, command in _leaves(cli) if not any("--json" in parameter.opts for parameter in command.params)
    }
    assert without == {("serve",)}, "a server has no result to print"


@pytest.mark.parametrize("group", ["data", "train"])
def test_summaries_of_commands_are_never_cut(group: str) -> None:
    shown = CliRunner().invoke(cli, [group, "--help"]).output.partition("Commands:")[2]
    assert shown and "..." not in shown


def test_verify_with_the_oracle(reference_bundle: Path) -> None:
    verified = run("verify", reference_bundle, "--steps", "20")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "first difference of greedy runs: none" in verified.stdout


@pytest.mark.slow
def test_verify_against_the_checkpoint_and_against_a_bundle(reference_bundle: Path, reference_checkpoint: Path) -> None:
    for other in (reference_checkpoint, reference_bundle):
        done = run("verify", reference_bundle, "--against", other, "--steps", "200", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        agreement = json.loads(done.stdout)["agreement"]
        assert agreement["max_logit_error"] <= 1e-4 + 1e-5 * agreement["max_logit_value"]
        assert agreement["first_difference"] is None
        assert agreement["router_agreement"] == 1.0


@pytest.mark.slow
def test_verify_in_16_bits(reference_checkpoint: Path, tmp_path: Path) -> None:
    """The oracle reads the stored weights and agrees; the checkpoint's float32 weights agree within the tolerance."""
    from unimoe_export.exporter import export_bundle

    bundle = tmp_path / "bundle"
    export_bundle(reference_checkpoint, bundle, precision="bfloat16")

    def verify(*arguments: str | Path) -> Any:
        return CliRunner().invoke(cli, ["verify", str(bundle), "--steps", "10", *map(str, arguments)])

    done = verify("--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["agreement"]["max_logit_error"] < 1e-4
    near = verify("--against", reference_checkpoint)
    assert near.exit_code == 0, near.output
    assert "any" in near.stdout
    strict = verify("--against", reference_checkpoint, "--tolerance", "1e-4")
    assert strict.exit_code == 1 and "FAILS" in strict.stdout


def test_verify_finds_a_difference(reference_bundle: Path, tmp_path: Path) -> None:
    """A different model of the same shape fails with exit code 1 and a table of the differences."""
    from tests.random_checkpoint import write_random_checkpoint
    from unimoe_export.exporter import export_bundle
    from unimoe_runtime.bundle.reader import open_bundle

    other = write_random_checkpoint(tmp_path / "checkpoint", open_bundle(reference_bundle).model)
    export_bundle(other, tmp_path / "other")
    done = run("verify", reference_bundle, "--against", tmp_path / "other", "--steps", "5")
    assert done.returncode == 1
    assert "FAILS" in done.stdout


@pytest.mark.slow
def test_bad_input_gives_one_line(reference_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    assert_one_line(run("inspect", tmp_path), "not a bundle")
    assert_one_line(run("export", tmp_path, tmp_path / "bundle"), "config.json")
    assert_one_line(run("synth", reference_bundle, "--text", "x", "-o", out), "has no front end")
    assert_one_line(run("synth", reference_bundle, "--text", "x", "-o", tmp_path / "out.mp3"), "use one of .wav")
    assert_one_line(run("synth", reference_bundle, "--text", "x", "-o", tmp_path / "no" / "out.wav"), "folder")
    assert_one_line(run("verify", reference_bundle, "--provider", "Abacus"), "ONNX Runtime has no Abacus")
    for command in (["verify"], ["synth", "--text", "x", "-o", out]):
        cuda = run(*command, reference_bundle, "--provider", "CUDAExecutionProvider")
        assert cuda.returncode == 2 and "--backend onnxruntime-cuda" in cuda.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["torch", "onnx_ir"])
def test_a_missing_package_is_named_with_its_extra(package: str, tmp_path: Path) -> None:
    """The package is missing, as in an install of `unimoe[cpu]`; a command that needs it names the install command."""
    command = {"torch": ["train", "demo", "--work", str(tmp_path)], "onnx_ir": ["export", "a", "b"]}[package]
    script = (
        f"import sys; sys.modules[{package!r}] = None; import unimoe.cli; sys.argv[1:] = {command}; unimoe.cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env={"PYTHONPATH": PACKAGE_ROOTS}
    )
    assert_one_line(done, f"needs {package}: `pip install ")
