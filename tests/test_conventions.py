"""The project's rules that no linter checks: sizes, documentation, location of tests."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import unimoe_runtime
from unimoe.cli.group import cli

ROOT = Path(__file__).parent.parent
MAX_LINES = 300
CODE = ("unimoe", "export", "calibration", "runtime", "benchmarks")


def code_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *CODE], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    paths = [ROOT / line for line in listed.splitlines()] or [path for top in CODE for path in (ROOT / top).rglob("*")]
    return [path for path in paths if path.suffix == ".py" and path.is_file()]


def commands(group: click.Group, prefix: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{prefix} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")


COMMANDS = dict(commands(cli, "unimoe"))


def test_modules_are_short() -> None:
    lengths = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in code_files()}
    assert not {str(path): length for path, length in lengths.items() if length > MAX_LINES}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_its_options_have_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help, f"{name} has no description"
    bare = [
        parameter.opts[-1]
        for parameter in command.params
        if isinstance(parameter, click.Option) and not (parameter.help or parameter.hidden)
    ]
    assert not bare, f"{name}: no help for {', '.join(bare)}"


def test_the_command_list_has_every_command() -> None:
    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert ":module: unimoe.cli.group" in page and ":command: cli" in page


@pytest.mark.parametrize("name", unimoe_runtime.__all__)
def test_a_public_name_is_documented(name: str) -> None:
    value = getattr(unimoe_runtime, name)
    assert value.__doc__ and not value.__doc__.startswith(f"{name}("), f"{name} has no docstring"
    if isinstance(value, type):
        own = [(key, member) for key, member in vars(value).items() if not key.startswith("_") and callable(member)]
        assert not [key for key, member in own if not member.__doc__]


def test_every_module_says_what_it_is() -> None:
    bare = [str(path.relative_to(ROOT)) for path in code_files() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not bare
