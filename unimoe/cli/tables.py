"""Tables on any terminal and in a pipe, without cutting a name or a number.

A table that is too wide wraps its prose between words. If it is still too wide, its columns come closer, and then it
becomes a list: each row under its name, with as many figures on a line as fit. In a pipe or a file the width is
unlimited.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from unimoe.cli.bundle_argument import included_name

_GAPS = (2, 1)
_INDENT = "  "


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column. `right`: numbers, aligned right. `prose`: words that may wrap."""

    title: str
    right: bool = False
    prose: bool = False


def columns(*titles: str, prose: Sequence[str] = (), left: Sequence[str] = ()) -> list[Column]:
    """Columns of numbers after a first one of names; those in `left` and `prose` are words."""
    return [
        Column(title=title, right=bool(index) and title not in left and title not in prose, prose=title in prose)
        for index, title in enumerate(titles)
    ]


def terminal_width() -> int | None:
    """Columns of the terminal on standard output; None if standard output is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_facts(facts: Mapping[str, str]) -> None:
    """Print names and values, one per line; further lines of a value are aligned below its first."""
    width = terminal_width()
    indent = max(map(len, facts)) + 2
    if width is not None and width < 2 * indent:
        indent = 2
    for name, words in facts.items():
        head = f"{name}:".ljust(indent)
        lines = [words] if width is None else textwrap.wrap(words, width - indent, break_long_words=False) or [""]
        click.echo(click.style(head, bold=True) + lines[0])
        for line in lines[1:]:
            click.echo(" " * indent + line)


def print_prose(text: str, *, indent: str = "", **style: Any) -> None:
    """Print a paragraph, wrapped between words on a terminal. Further lines begin with `indent`. `style`: as for
    `click.style`."""
    width = terminal_width()
    lines = [text] if width is None else textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False)
    for line in lines:
        click.secho(line, **style)


def as_word(path: Path | str) -> str:
    """A path as one word of a shell's command line: a copied command must not run what a name holds.

    The cache's bundle of an included checkpoint is called by its name.
    """
    text = included_name(Path(path)) or str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def print_next(*steps: str) -> None:
    """Print what to do next, a step a line: a command is copied whole, at any width."""
    for number, step in enumerate(filter(None, steps)):
        click.echo(f"{'      ' if number else 'next: '}{step}")


def print_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, title: str = "", err: bool = False
) -> None:
    """Print rows of text, which may be styled by `click.style`."""
    width = terminal_width()
    if title:
        lines = [title] if width is None else textwrap.wrap(title, width, break_long_words=False)
        click.secho("\n" + "\n".join(lines), bold=True, err=err)
    for line in table_lines(columns, rows, width):
        click.echo(line, err=err)


def table_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> Iterator[str]:
    """The lines of a table within the given terminal columns, or of unlimited width."""
    used = [index for index, column in enumerate(columns) if column.title or any(row[index] for row in rows)]
    columns, rows = [columns[index] for index in used], [[row[index] for index in used] for row in rows]
    titles = [column.title for column in columns]
    widths = [max(map(_length, (titles[index], *(row[index] for row in rows)))) for index in range(len(columns))]
    gap = _GAPS[0]
    if width is not None and _total(widths, gap) > width:
        for gap in _GAPS:
            narrowed = _narrowed(columns, rows, widths, width - gap * (len(widths) - 1))
            if _total(narrowed, gap) <= width:
                break
        else:
            yield from _list_lines(columns, rows, width)
            return
        widths = narrowed
    if any(titles):
        yield from (click.style(line, bold=True) for line in _row_lines(columns, titles, widths, gap))
    for row in rows:
        yield from _row_lines(columns, row, widths, gap)


def _length(cell: str) -> int:
    """Length of a cell's longest line, without its colours."""
    return max(map(len, click.unstyle(cell).split("\n")))


def _total(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _narrowed(columns: Sequence[Column], rows: Sequence[Sequence[str]], widths: Sequence[int], width: int) -> list[int]:
    """Widths with wrapped prose: as narrow as needed for a sum of `width`, but never narrower than its longest word."""
    narrowed = list(widths)
    prose = [index for index, column in enumerate(columns) if column.prose]
    rest = width - sum(widths) + sum(widths[index] for index in prose)
    for place, index in enumerate(sorted(prose, key=lambda index: widths[index])):
        share = rest // (len(prose) - place)
        words = (columns[index].title, *(row[index] for row in rows))
        longest = max((len(word) for cell in words for word in click.unstyle(cell).split()), default=1)
        narrowed[index] = max(min(widths[index], share), longest)
        rest -= narrowed[index]
    return narrowed


def _row_lines(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int], gap: int) -> Iterator[str]:
    cells = [_wrapped(cell, size) for cell, size in zip(row, widths, strict=True)]
    for number in range(max(map(len, cells))):
        parts = []
        for column, lines, size in zip(columns, cells, widths, strict=True):
            line = lines[number] if number < len(lines) else ""
            space = " " * (size - len(click.unstyle(line)))
            parts.append(space + line if column.right else line + space)
        yield (" " * gap).join(parts).rstrip()


def _wrapped(cell: str, size: int) -> list[str]:
    lines = cell.split("\n")
    return [
        part
        for line in lines
        for part in (
            [line] if len(click.unstyle(line)) <= size else textwrap.wrap(line, size, break_long_words=False,
                                                                         break_on_hyphens=False) or [""]
        )
    ]  # fmt: skip


def _list_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    title, name = columns[0].title, ""
    for row in rows:
        name = row[0].replace("\n", " ") or name  # a row without a name continues the one above
        yield click.style(f"{title} {name}" if name.isdigit() else name or title, bold=True)
        cells = [(column, _labelled(column, cell)) for column, cell in zip(columns[1:], row[1:], strict=True) if cell]
        line = ""
        for column, words in cells:
            together = f"{line}{' ' * _GAPS[0]}{words}"
            if line and not column.prose and len(click.unstyle(_INDENT + together)) <= width:
                line = together
                continue
            yield from _continued(line, width)
            line = words
        yield from _continued(line, width)


def _labelled(column: Column, cell: str) -> str:
    title = column.title.replace("\n", " ")
    return (f"{title}: " if title else "") + cell.replace("\n", " ")


def _continued(words: str, width: int) -> list[str]:
    """A line of a list, indented; too long, it continues in further lines."""
    if len(click.unstyle(_INDENT + words)) <= width:
        return [_INDENT + words] if words else []
    return textwrap.wrap(
        _INDENT + words, width, subsequent_indent=2 * _INDENT, break_long_words=False, break_on_hyphens=False
    )
