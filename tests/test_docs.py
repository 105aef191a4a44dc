"""The documents: every `unimoe …` names an existing command with existing options; link targets exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from unimoe.cli.group import cli

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("checkpoints/*/README.md"))]
_FENCED = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
_INLINE = re.compile(r"`(unimoe [^`]+)`")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def commands_in(text: str) -> Iterator[str]:
    """Lines of code that call `unimoe`, with continued lines joined and shell syntax removed."""
    for block in _FENCED.findall(text):
        for line in re.sub(r"\s*\\\n\s*", " ", block).splitlines():
            if line.strip().startswith("unimoe "):
                yield re.split(r"\s[|>&#]|\s{3,}|;", line.strip())[0]
    for line in _INLINE.findall(_FENCED.sub("", text).replace("\n", " ")):
        yield re.split(r"\s[|>&#]", line)[0]


def fault(line: str) -> str | None:
    """The error in a command of the documents; None if it is valid."""
    command: click.Command = cli
    context = click.Context(cli)
    options: set[str] = {"--help", "-h", "--version"}
    for word in re.sub(r"[\[\]'\"]", " ", line).split()[1:]:
        if word.startswith("-") and word != "-":
            if word.partition("=")[0] not in options:
                return f"{command.name} has no {word}"
        elif isinstance(command, click.Group):
            name, found, _ = command.resolve_command(context, [word]) if word.isidentifier() else (None, None, [])
            if found is None:
                return None  # an argument, or a placeholder for a command
            command, context = found, click.Context(found, info_name=name)
            options = {
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            }
            options |= {"--help", "-h"}
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_exist(document: Path) -> None:
    faults = []
    for line in commands_in(document.read_text(encoding="utf-8")):
        try:
            found = fault(line)
        except click.UsageError as error:
            found = error.format_message()
        if found:
            faults.append(f"{line}: {found}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    missing = [
        link for link in _LINK.findall(document.read_text(encoding="utf-8")) if not (document.parent / link).exists()
    ]
    assert not missing, missing


def test_the_test_finds_faults() -> None:
    text = "```\nunimoe synth b --text x \\\n  --sing\nunimoe dance b\n```\nand `unimoe inspect b --check | head`"
    lines = list(commands_in(text))
    assert len(lines) == 3
    assert fault(lines[0]) == "synth has no --sing"
    with pytest.raises(click.UsageError, match="dance"):
        fault(lines[1])
    assert fault(lines[2]) is None
