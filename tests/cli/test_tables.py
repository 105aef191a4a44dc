"""Tables keep every name and number whole at any width, and in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import sys
import termios
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.command_line import ROOT, run
from unimoe.cli.tables import Column, as_word, columns, print_next, table_lines

TABLE = [Column(title="target"), Column(title="step\nms", right=True), Column(title="why", prose=True)]
ROWS = [
    ["rtx-4060-laptop", "35 (15–77)", "the most exact that fits completely and has a real-time factor of at most 0.7"],
    ["gb10", "5 (1–9)", "the fastest"],
]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, None])
def test_nothing_is_cut_and_nothing_is_too_wide(width: int | None) -> None:
    lines = list(table_lines(TABLE, ROWS, width))
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert "…" not in "".join(plain)
    words = " ".join(plain).split()
    for row in ROWS:
        assert all(word in words for cell in row for word in cell.split())
    if width is not None:
        assert max(map(len, plain)) <= width or width < 20
    if width is None:
        assert len(lines) == 2 + len(ROWS)


def test_numbers_are_aligned_by_their_ends() -> None:
    lines = list(table_lines(columns("name", "ms"), [["a", "1.0"], ["bb", "100.0"]], None))[1:]
    assert lines == ["a       1.0", "bb    100.0"]


def in_a_terminal(width: int, *arguments: str | Path, overwritten: bool = False) -> str:
    """What a command, or Python's `-c`, prints on a terminal of the given width, without its colours; `overwritten`:
    with what a later line replaced, such as a bar."""
    words = list(map(str, arguments)) if arguments[0] == "-c" else ["-m", "unimoe.cli", *map(str, arguments)]
    process, terminal = pty.fork()
    if process == 0:
        path = ":".join(str(ROOT / part) for part in (".", "export", "runtime", "calibration"))
        environment = {**os.environ, "PYTHONPATH": path, "TERM": "xterm", "OMP_NUM_THREADS": "1"}
        environment.pop("COLUMNS", None)
        os.execve(sys.executable, [sys.executable, *words], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    told = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        told += part
    os.waitpid(process, 0)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", told.decode()).replace("\r\n", "\n")
    return plain if overwritten else re.sub(r"[^\n]*\r", "", plain)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_commands_fit_a_terminal(width: int, reference_bundle: Path) -> None:
    """Names whole, no line of a table wider than the terminal."""
    sources = in_a_terminal(width, "data", "sources")
    for name in ("flite", "fluidsynth"):
        assert name in sources
    plan = in_a_terminal(width, "plan", "public", "--target", "rtx-4060-laptop")
    assert "…" not in plan + sources and "int8-weights" in plan
    assert "→ int4" in plan
    table = plan[plan.index("\n\n") : plan.index("int4: the fastest")]
    assert max(map(len, table.splitlines())) <= width
    shown = in_a_terminal(width, "inspect", reference_bundle)
    assert "embeddings" in shown and "…" not in shown


def test_piped_tables_have_all_their_width() -> None:
    piped = run("plan", "public", "--target", "rtx-4060-laptop").stdout
    assert "first" in piped and "…" not in piped
    assert any(line.split()[:2] == ["→", "int4"] for line in piped.splitlines())


COVERAGE = columns("layer", "data", *map(str, range(8)), "null", left=("data",))
TOKENS = [["0", "all", *["1373"] * 8, "3 %"], ["", "music", *["58"] * 8, ""]]


def test_columns_come_closer_before_a_table_becomes_a_list() -> None:
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in table_lines(COVERAGE, TOKENS, 60)]
    assert len(lines) == 3 and max(map(len, lines)) <= 60 and "1373 1373" in lines[1]


def test_a_list_names_every_row_and_puts_figures_side_by_side() -> None:
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in table_lines(COVERAGE, TOKENS, 45)]
    assert [line for line in lines if not line.startswith(" ")] == ["layer 0", "layer 0"]
    assert "  data: music  0: 58  1: 58  2: 58  3: 58" in lines and len(lines) <= 8


def test_every_next_step_has_its_own_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_next("`unimoe export a b`", "", '`unimoe synth b --text "…" -o out.wav`')
    assert capsys.readouterr().out == 'next: `unimoe export a b`\n      `unimoe synth b --text "…" -o out.wav`\n'


def test_next_steps_are_printed_in_one_way() -> None:
    for path in (ROOT / "unimoe/cli").glob("*.py"):
        assert path.name == "tables.py" or '"next: ' not in path.read_text(), path


SAYING = """
import time
from unimoe.cli.progress import progress_bar
with progress_bar("working") as bar:
    bar("working", 0, 4)
    time.sleep(0.3)
    bar.say("a line above the bar")
    time.sleep(0.3)
"""


def test_a_line_above_a_bar_has_its_own_line() -> None:
    assert "a line above the bar" in in_a_terminal(60, "-c", SAYING).split("\n")


NAMING = """
import time
from unimoe.cli.progress import progress_bar
with progress_bar("working") as bar:
    bar("layers.0.expert.31", 1, 4)
    time.sleep(0.3)
"""


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_bar_has_room_for_a_name(width: int) -> None:
    told = in_a_terminal(width, "-c", NAMING, overwritten=True)
    assert "layers.0.expert.31" in told and "1/4" in told
    assert ("━" in told) == (width >= 80)


@given(st.text(st.characters(blacklist_characters="\0"), min_size=1))
def test_a_path_in_a_command_stays_one_word(name: str) -> None:
    """Whoever copies the command runs nothing else."""
    word = shlex.split(as_word(name))
    assert word == [f"./{name}" if name.startswith("-") else name]


def test_suggested_commands_quote_their_paths() -> None:
    """A plain name in a command would be a path that no one quoted; `made` are arguments that are quoted where made."""
    made = {"options", "recordings", "names"}
    for source in (ROOT / "unimoe" / "cli").glob("*.py"):
        for command in re.findall(r"`unimoe [^`\n]*`", source.read_text(encoding="utf-8")):
            assert set(re.findall(r"\{(\w+)\}", command)) <= made, f"{source.name}: {command}"
