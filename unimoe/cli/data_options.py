"""What the commands of `unimoe data` share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from unimoe.cli.options import PROCESSES, read_toml_section, write_json
from unimoe.cli.tables import print_next
from unimoe.exclusive import exclusive
from unimoe.stopping import kept_when_stopped

CORPUS = click.Path(path_type=Path, file_okay=False, exists=True)
OUT = click.Path(path_type=Path, file_okay=False)
RECIPE = click.Path(path_type=Path, dir_okay=False)
WORKERS = click.option("--workers", default=2, show_default=True, type=PROCESSES, help="Number of worker processes.")


@contextmanager
def incomplete_when_stopped(out: Path) -> Iterator[None]:
    """Lock the folder that a command makes in one go, and say, where a signal stops it, that it is incomplete.

    Raises OutputError where another process makes it.
    """
    with exclusive(out), anew_when_stopped(out):
        yield


@contextmanager
def anew_when_stopped(out: Path) -> Iterator[None]:
    """Say, where a signal stops the block, that `out` is incomplete."""
    with kept_when_stopped(lambda: f"{out} is incomplete; the same command makes it anew"):
        yield


def read_section(path: Path, name: str) -> dict[str, Any]:
    """A section of a recipe, lists as tuples. Raises ConfigError if the file is missing or damaged, or lacks it."""
    section = read_toml_section(path, name)
    return {key: tuple(value) if isinstance(value, list) else value for key, value in section.items()}


def tell_corpus(
    corpus: Any,
    folder: Path,
    json_to: str | None,
    *,
    note: str = "",
    next_steps: Sequence[str] = (),
    left_out: Mapping[str, int] | None = None,
) -> None:
    """Report a finished corpus: its clips and hours, how many each reason left out, and the next command."""
    hours = sum(item.length for item in corpus) / corpus.sample_rate_hz / 3600
    record = {"corpus": str(folder), "clips": len(corpus), "hours": round(hours, 4)}
    if not write_json(record if left_out is None else {**record, "left_out": dict(left_out)}, json_to):
        for reason, amount in (left_out or {}).items():
            click.echo(f"{amount:7,} left out: {reason}")
        click.echo(corpus.summary(folder) + note)
        print_next(*next_steps)
