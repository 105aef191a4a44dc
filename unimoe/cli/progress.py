"""The progress bar of all commands: the running task, its progress, and the remaining time.

It is drawn only on a terminal and disappears when the work is done, so a log holds no trace of it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from unimoe.stopping import Stopped

Progress = Callable[[str, int, int], None]
"""Called with the running task, the amount done, and the total."""


@contextmanager
def progress_bar(start: str = "opening", *, kept: str = "") -> Iterator[Progress]:
    """A progress bar on standard error while the block runs.

    A signal that stops the block says how far it came, and `kept`: what stays of it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    fixed = partial(Column, no_wrap=True)
    columns = (
        BarColumn(bar_width=16, table_column=fixed(min_width=16)),
        MofNCompleteColumn(table_column=fixed()),
        TimeElapsedColumn(table_column=fixed(min_width=7)),
        TextColumn("left", table_column=fixed(min_width=4)),
        TimeRemainingColumn(table_column=fixed(min_width=7)),
        # Last, so that a long name cannot squeeze the figures; it continues on the next line.
        TextColumn("{task.description}", table_column=Column(ratio=1, overflow="fold")),
    )
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, expand=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(start, total=None)
        reached = start

        def progress(what: str, done: int, total: int) -> None:
            nonlocal reached
            reached = f"{what}, {done:,} of {total:,}"
            bar.update(task, description=what, completed=done, total=total)

        try:
            yield progress
        except KeyboardInterrupt as stop:
            number = getattr(stop, "number", signal.SIGINT)
            raise Stopped(number, getattr(stop, "where", "") or "; ".join(filter(None, (reached, kept)))) from None
