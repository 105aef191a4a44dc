"""Progress bars of long work: on standard error, drawn only on a terminal, gone when the work is done.

So a log holds no trace of them, and standard output holds only results.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, ProgressColumn

_Item = TypeVar("_Item")


def progress_bars(*columns: ProgressColumn) -> Progress:
    """A place for bars, one for each `add_task`, while its block runs. `columns`: of a bar; by default rich's own."""
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def tracked(items: Iterable[_Item], description: str, *, total: int) -> Iterator[_Item]:
    """The items, with a bar that counts them."""
    with progress_bars() as bars:
        yield from bars.track(items, description=description, total=total)
