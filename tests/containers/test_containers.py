"""Containerfiles: the script runs every step, and each of our commands exists with its options.

`make containers` runs the steps themselves, with a wheel and a pack.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from containers.run_steps import read_steps, run_steps
from unimoe.cli.group import cli

FOLDER = Path(__file__).parents[2] / "containers"


@pytest.mark.parametrize("name", ["cpu-server", "rtx"])
def test_commands_of_the_steps_exist(name: str) -> None:
    steps = list(read_steps(FOLDER / name / "Containerfile"))
    assert steps[0][0] == "FROM" and steps[-1][0] == "CMD"
    words = " && ".join(re.sub(r'[\[\]",]', " ", rest) for _, rest in steps)
    commands = re.findall(r"env/bin/unimoe ([^&;]*)", words)
    assert len(commands) >= 3
    for line in commands:
        command, *arguments = shlex.split(line)
        found = cli.get_command(click.Context(cli), command)
        assert found is not None, command
        options = {option for parameter in found.params for option in parameter.opts}
        assert {one for one in arguments if one.startswith("-")} <= options


def test_steps_copy_and_run(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a-1.txt").write_text("hello")
    file = tmp_path / "Containerfile"
    file.write_text('FROM x\nWORKDIR /srv\nCOPY a-*.txt ./\nRUN cat a-1.txt \\\n  > b.txt\nCMD ["run"]\n')
    assert run_steps(file, tmp_path / "in", tmp_path / "out") == '["run"]'
    assert (tmp_path / "out" / "b.txt").read_text() == "hello"
    file.write_text("ADD x y\n")
    with pytest.raises(ValueError, match="ADD is no instruction"):
        list(read_steps(file))
