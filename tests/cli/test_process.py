"""Signals, standard output and the exit code, which all commands share."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import indent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.command_line import PACKAGE_ROOTS
from unimoe.cli.process import tell, without_controls

ENVIRONMENT = {**os.environ, "PYTHONPATH": PACKAGE_ROOTS}
SLOW_IMPORT = """
import time
print("imports", flush=True)
for _ in range(3000):
    time.sleep(0.01)
"""
"""Short sleeps in a loop of Python: a signal just before a long sleep, or in a loop of C, would wait for its end."""


def start(command: list[str], stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("where", ["group.py", "command.py", "library.py"])
def test_a_signal_during_the_imports_is_one_line(tmp_path: Path, number: int, where: str) -> None:
    """In the modules of the command line, in those of a command, and in a library that a command's body imports. The
    library turns the exception into another one."""
    fake = {"group.py": "unimoe.cli.group", "command.py": "unimoe.cli.voices", "library.py": "unimoe_tools.bundles"}
    body = indent(SLOW_IMPORT, "    ")
    library = f"try:\n{body}\nexcept BaseException:\n    pass\nraise ImportError('a library failed')"
    program = f"""
import importlib.abc, importlib.util, sys
class Slow(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        return importlib.util.spec_from_loader(name, self) if name == {fake[where]!r} else None
    def exec_module(self, module):
        exec({library if where == "library.py" else SLOW_IMPORT!r})
sys.meta_path.insert(0, Slow())
sys.argv = ["unimoe", "voices", {str(tmp_path)!r}]
from unimoe.cli import main
main()
"""
    (tmp_path / "manifest.json").write_text("{}")
    process = start([sys.executable, "-c", program])
    assert process.stdout is not None and process.stdout.readline() == "imports\n"
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert told == f"unimoe: stopped by {'hand' if number == signal.SIGINT else 'a signal'}\n"


@pytest.mark.parametrize("command", [["data", "sources"], ["inspect"], ["data", "sources", "--json"]])
def test_output_that_nobody_takes_is_one_line(command: list[str], tiny_bundle: Path) -> None:
    command = [*command, str(tiny_bundle)] if command == ["inspect"] else command
    with open("/dev/full", "w") as full:
        process = start([sys.executable, "-m", "unimoe.cli", *command], stdout=full.fileno())
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (1, "unimoe: standard output: No space left on device\n")
    reading, writing = os.pipe()
    os.close(reading)
    process = start([sys.executable, "-m", "unimoe.cli", *command], stdout=writing)
    os.close(writing)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (1, "unimoe: standard output: its reader is gone; the rest was not written\n")


def test_a_second_signal_at_once_does_nothing_and_a_later_one_ends() -> None:
    program = """
import os, signal, sys, time
from unimoe.cli.process import hear_signals, stopped_by, work_begins
hear_signals()
work_begins()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGINT)
print(stopped_by(), flush=True)
time.sleep(30)
"""
    process = start([sys.executable, "-c", program])
    assert process.stdout is not None and process.stdout.readline() == "2\n"
    time.sleep(1.2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130


@pytest.mark.parametrize("value", ["0" * 10**6, "\x1b[2J\u2028" * 10**4])
def test_a_long_value_does_not_fill_the_screen(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    tell(f"no target {value!r}; there are cpu and others")
    told = capsys.readouterr().err
    assert told.startswith("unimoe: no target '") and told.endswith("; there are cpu and others\n")
    assert len(told) < 1300 and told.count("\n") == 1 and told[:-1].isprintable()


@given(st.text(st.sampled_from("ab\x1b[3;1m\x07\r\n\t\x9b\u202e\x00\x7fé0K]")))
def test_output_moves_no_cursor(text: str) -> None:
    """Line ends, tabs and colours stay; other control characters are shown."""
    shown = without_controls(text)
    plain = re.sub(r"\x1b\[[\d;]*m|\r\n", "", shown)
    assert not set(plain) & set("\x1b\x07\r\x9b\u202e\x00")
    assert without_controls(shown) == shown
    assert json.loads(without_controls(json.dumps([text]))) == [text]


def test_what_is_printed_has_no_control_characters() -> None:
    program = """
from unimoe.cli.process import write_what_can_be
write_what_can_be()
print("\\x1b]0;title\\x07 \\u202eback \\x1b[1mbold\\x1b[0m")
"""
    process = start([sys.executable, "-c", program])
    said, told = process.communicate(timeout=60)
    assert (said, told) == ("\\x1b]0;title\\x07 \\u202eback \x1b[1mbold\x1b[0m\n", "")
