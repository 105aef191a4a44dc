"""The group of commands: listed without their modules, and loaded when they are called."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from tests.command_line import PACKAGE_ROOTS
from unimoe.cli.group import cli

CONTEXT = click.Context(cli, info_name="unimoe")
NAMES = cli.list_commands(CONTEXT)


@pytest.mark.parametrize("name", NAMES)
def test_each_command_loads_and_says_what_it_does(name: str) -> None:
    command = cli.get_command(CONTEXT, name)
    assert command is not None and command.help
    assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0
    assert f"\n  {name} " in cli.get_help(CONTEXT)


def test_a_wrong_name_is_a_usage_error() -> None:
    assert cli.get_command(CONTEXT, "sing") is None
    with pytest.raises(click.UsageError, match="No such command 'sing'"):
        cli.main(["sing"], standalone_mode=False)


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--version"]])
def test_help_imports_no_command(words: list[str]) -> None:
    code = f"""
import sys
from unimoe.cli.group import cli
cli.main({words!r}, prog_name="unimoe", standalone_mode=False)
heavy = [name for name in ("torch", "numpy", "rich", "onnx", "onnxruntime") if name in sys.modules]
assert not heavy, heavy
assert not [name for name in sys.modules if name.startswith("unimoe_")]
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": PACKAGE_ROOTS}, capture_output=True, text=True
    )
    assert done.returncode == 0 and "unimoe" in done.stdout, done.stderr
