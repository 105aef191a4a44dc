"""The ways a command ends: a line on stderr and an exit code for each."""

from __future__ import annotations

import ast
import signal
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

from unimoe.cli import running
from unimoe.cli.running import EXTRAS, run
from unimoe.stopping import Stopped
from unimoe_runtime.errors import BundleError, OutputError, UnimoeError

ROOT = Path(__file__).parents[2]
# Modules whose absence their importers explain themselves.
EXPLAINED = {"cuda", "ray", "sounddevice", "yaml"}


class Ends:
    """A command line that ends in one way."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def main(self, **_: object) -> Any:
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def ended(result: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The exit code of a command that returns or raises `result`."""
    monkeypatch.setattr(running, "cli", Ends(result))
    monkeypatch.setattr(running, "write_what_can_be", lambda: None)
    with pytest.raises(SystemExit) as caught:
        run()
    return caught.value.code


def missing_file() -> OSError:
    return FileNotFoundError(2, "No such file or directory", "a.toml")


@pytest.mark.parametrize(
    ("result", "code", "told"),
    [
        (None, 0, ""),
        ("a value", 0, ""),
        (0, 0, ""),
        (3, 3, ""),
        (SystemExit(None), 0, ""),
        (SystemExit(4), 4, ""),
        (SystemExit("words"), 1, ""),
        (BundleError("b: damaged; copy it again"), 1, "unimoe: b: damaged; copy it again\n"),
        (OutputError("two\nlines \x1b[2J"), 1, "unimoe: two\\nlines \\x1b[2J\n"),
        (missing_file(), 1, "unimoe: a.toml: No such file or directory\n"),
        (OSError("no number"), 1, "unimoe: no number\n"),
        (
            OSError(28, "No space"),
            1,
            "unimoe: the output: cannot be written (No space): free some space, or choose another place\n",
        ),
        (
            OSError(122, "Quota", "a"),
            1,
            "unimoe: a: cannot be written (Quota): free some space, or choose another place\n",
        ),
        (
            OSError(28, "Full", "source", None, b"to"),
            1,
            "unimoe: to: cannot be written (Full): free some space, or choose another place\n",
        ),
        (OSError(2, "Missing", "source", None, "to"), 1, "unimoe: source: Missing\n"),
        (OSError(30, "Read-only", "a"), 1, "unimoe: a: cannot be written (Read-only): choose another place\n"),
        (OSError(24, "Too many", "a"), 1, "unimoe: a: Too many: allow more with `ulimit -n`\n"),
        (OSError(5, "Input error", 7), 1, "unimoe: Input error\n"),
        (MemoryError(), 1, "unimoe: there is not enough memory for this\n"),
        (KeyboardInterrupt(), 130, "unimoe: stopped by hand\n"),
        (click.Abort(), 130, "unimoe: stopped by hand\n"),
        (Stopped(signal.SIGTERM), 143, "unimoe: stopped by a signal\n"),
        (Stopped(signal.SIGINT, "3 clips are kept"), 130, "unimoe: stopped by hand: 3 clips are kept\n"),
        (click.UsageError("no such option"), 2, "Error: no such option\n"),
        (click.ClickException("failed"), 1, "Error: failed\n"),
        (click.UsageError("a" * 5000 + " is wrong"), 2, f"Error: {'a' * 900} … {'a' * 291} is wrong\n"),
    ],
)
def test_each_end_has_its_code_and_line(
    result: Any, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(result, monkeypatch) == code
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("module", sorted(EXTRAS))
def test_a_missing_module_is_named_with_its_extra(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(ModuleNotFoundError("", name=f"{module}.part"), monkeypatch) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"unimoe: this command needs {module}: `") and f"[{EXTRAS[module]}]" in told


@pytest.mark.parametrize("error", [ValueError("a fault of ours"), ModuleNotFoundError("", name="unimoe.nothing")])
def test_a_fault_of_ours_stays_a_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "cli", Ends(error))
    with pytest.raises(type(error)):
        run()


def test_whoever_debugs_sees_every_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIMOE_DEBUG", "1")
    monkeypatch.setattr(running, "cli", Ends(UnimoeError("wrong")))
    with pytest.raises(UnimoeError, match="wrong"):
        run()


def imported(package: str) -> set[str]:
    """Third-party modules that the files of a package import."""
    found: set[str] = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return {name for name in found if name not in sys.stdlib_module_names and not name.startswith("unimoe")}


def test_every_module_of_an_extra_is_known() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def provides(requirements: list[str]) -> set[str]:
        words = (one.replace("-", "_").lower() for one in requirements)
        return {word.split(">")[0].split("<")[0].split("[")[0].split(";")[0].strip() for word in words}

    base = provides(project["dependencies"])
    used = set().union(*map(imported, ("unimoe", "runtime", "export", "calibration")))
    assert used - base - EXPLAINED == set(EXTRAS)
    for module, extra in EXTRAS.items():
        assert {"PIL": "pillow"}.get(module, module) in provides(project["optional-dependencies"][extra])
