"""The progress bar of all commands: the running task, its progress, and the remaining time.

It is drawn only on a terminal and disappears when the work is done, so a log holds no trace of it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from unimoe.stopping import Stopped

_WIDE = 80
Progress = Callable[[str, int, int], None]
"""Called with the running task, the amount done, and the total."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What a block with a bar calls: the bar itself, as `Progress`, and `say`."""

    advance: Progress
    say: Callable[[str], None]
    """Prints a line on standard error, above the bar; `click.echo` would write into the bar's line."""

    def __call__(self, what: str, done: int, total: int) -> None:
        self.advance(what, done, total)


@contextmanager
def progress_bar(start: str = "opening", *, kept: str = "") -> Iterator[Bar]:
    """A progress bar on standard error while the block runs.

    A signal that stops the block says how far it came, and `kept`: what stays of it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.table import Column

    fixed = partial(Column, no_wrap=True)
    console = Console(stderr=True)
    # A narrow terminal has no room for the bar beside a name: it shows the figures alone.
    bar_itself = [BarColumn(bar_width=16, table_column=fixed(min_width=16))] if console.width >= _WIDE else []
    columns = (
        *bar_itself,
        MofNCompleteColumn(table_column=fixed()),
        TimeElapsedColumn(table_column=fixed(min_width=7)),
        TextColumn("left", table_column=fixed(min_width=4)),
        TimeRemainingColumn(table_column=fixed(min_width=7)),
        # Last, so that a long name cannot squeeze the figures; it continues on the next line.
        TextColumn("{task.description}", table_column=Column(ratio=1, overflow="fold")),
    )
    with Bars(*columns, console=console, transient=True, expand=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(start, total=None)
        reached = start

        def progress(what: str, done: int, total: int) -> None:
            nonlocal reached
            reached = f"{what}, {done:,} of {total:,}"
            bar.update(task, description=what, completed=done, total=total)

        def say(line: str) -> None:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

        try:
            yield Bar(advance=progress, say=say)
        except KeyboardInterrupt as stop:
            number = getattr(stop, "number", signal.SIGINT)
            raise Stopped(number, getattr(stop, "where", "") or "; ".join(filter(None, (reached, kept)))) from None
