"""Runs the snippets of the documents: every Python block, and every shell block marked `sh`.

A block that cannot run here has a comment in the line before it: `<!-- not run: reason -->`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.command_line import PACKAGE_ROOTS
from unimoe_export.exporter import export_bundle

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]+) -->\n)?^```(?P<kind>python|sh)\n(?P<code>.*?)^```", re.M | re.S
)
# Lines that set up an environment: the tests already run in one.
_SET_UP = ("python3 -m venv", ". .venv/", "make ", "pip install")
pytestmark = pytest.mark.slow


@dataclass(frozen=True, kw_only=True)
class Snippet:
    document: Path
    line: int
    kind: str
    code: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def snippets_in(document: Path) -> Iterator[Snippet]:
    text = document.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("code"))
        yield Snippet(document=document, line=line, kind=found["kind"], code=found["code"], reason=found["reason"])


SNIPPETS = [snippet for document in DOCUMENTS for snippet in snippets_in(document)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder: a checkout's checkpoints, and the demo's bundle under both names."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("checkpoints", "recipes", "docs"):
        (folder / name).symlink_to(ROOT / name)
    export_bundle(ROOT / "checkpoints" / "demo", folder / "build" / "demo" / "bundle")
    (folder / "bundle").symlink_to(folder / "build" / "demo" / "bundle")
    return folder


@pytest.fixture(scope="module")
def environment(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    commands = tmp_path_factory.mktemp("bin")
    script = commands / "unimoe"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m unimoe.cli "$@"\n')
    script.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "PYTHONPATH": PACKAGE_ROOTS,
        "XDG_CACHE_HOME": str(folder / "cache"),
    }


def shell_script(code: str) -> str:
    """The block without the lines that set up an environment, with `.venv/bin/unimoe` replaced by `unimoe`."""
    lines = [line for line in code.splitlines() if not line.lstrip().startswith(_SET_UP)]
    return "set -e\n" + "\n".join(lines).replace(".venv/bin/", "") + "\n"


@pytest.mark.parametrize("snippet", [one for one in SNIPPETS if one.reason is None], ids=str)
def test_a_snippet_runs(snippet: Snippet, folder: Path, environment: dict[str, str]) -> None:
    if snippet.kind == "python":
        command = [sys.executable, "-c", snippet.code]
    else:
        command = ["sh", "-c", shell_script(snippet.code)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, f"{snippet.code}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_snippets_are_found_and_set_up_is_left_out() -> None:
    assert {"README.md", "tutorial.md"} <= {snippet.document.name for snippet in SNIPPETS}
    script = shell_script("python3 -m venv .venv && x\n.venv/bin/unimoe doctor\nmake demo\n")
    assert script == "set -e\nunimoe doctor\n"


def test_a_reason_is_read(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("<!-- not run: needs a GPU -->\n```sh\nunimoe doctor\n```\n\n```python\nprint(1)\n```\n")
    reasons = [snippet.reason for snippet in snippets_in(document)]
    assert reasons == ["needs a GPU", None]
