"""`unimoe eval`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from unimoe.data.corpus import Corpus
from unimoe.evaluation.suite import Evaluation, evaluate_bundle
from unimoe.evaluation.tables import tables
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import MANIFEST, open_bundle
from unimoe_runtime.synthesis.synthesizer import Synthesizer
from unimoe_tools.profiling.report import require_writable, write_output


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--corpus", required=True, type=click.Path(path_type=Path), help="Folder of the rendered corpus.")
@click.option("--texts", default=24, show_default=True, type=click.IntRange(min=2), help="Texts a voice and kind.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the engine. [default: the engine's own]")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures here.")
@click.option(
    "--html", "html_path", type=click.Path(path_type=Path, dir_okay=False), help="Write a page to read and listen to."
)
def evaluate(
    model: Path, corpus: Path, texts: int, threads: int | None, json_path: Path | None, html_path: Path | None
) -> None:
    """Judge a MODEL, a bundle or a checkpoint, on held-out texts of a corpus.

    Words that are heard, voices, notes, how natural it sounds, loss by domain, and what the routers pick; beside each
    what the original recordings score, and a baseline. A checkpoint is exported first, into a temporary folder.
    """
    for path in (json_path, html_path):
        if path is not None:
            require_writable(path)
    opened = Corpus.open(corpus)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with (
        _as_bundle(model) as folder,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("opening", total=None)
        backend = open_backend("onnxruntime", open_bundle(folder), threads=threads)
        with Synthesizer(backend.bundle, backend) as synthesizer:
            found = evaluate_bundle(
                synthesizer, backend, opened, name=model.name, corpus_name=str(corpus), num_texts=texts,
                tick=lambda name, done, total: bar.update(task, description=name, completed=done, total=total),
            )  # fmt: skip
    if json_path is not None:
        record = {"model": str(model), "corpus": str(corpus), "texts": texts, **found.to_dict()}
        write_output(json_path, json.dumps(record, indent=1) + "\n")
    if html_path is not None:
        from unimoe.evaluation.page import as_html

        write_output(html_path, as_html(found))
    print_tables(found, Console())


@contextmanager
def _as_bundle(model: Path) -> Iterator[Path]:
    """The folder of a bundle; a checkpoint's is there as long as it is needed."""
    if (model / MANIFEST).exists():
        yield model
        return
    from unimoe_export.exporter import export_bundle

    # A process of its own: exporting compares graphs with all cores, and an engine's threads are set once a process.
    with (
        tempfile.TemporaryDirectory(prefix="unimoe-eval-") as folder,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
    ):
        pool.submit(export_bundle, model, Path(folder) / "bundle").result()
        yield Path(folder) / "bundle"


def print_tables(found: Evaluation, console: Console) -> None:
    """Every table with its note, then what was refused or could not be measured."""
    console = console if console.is_terminal else Console(width=150)
    for described in tables(found):
        table = Table(title=described.title, title_justify="left", box=box.SIMPLE_HEAD, caption=described.note)
        table.caption_justify = "left"
        for number, name in enumerate(described.columns):
            table.add_column(name, justify="left" if number == 0 else "right")
        for row in described.rows:
            table.add_row(*row)
        console.print(table, highlight=False)
    for name, why in found.unmeasured.items():
        console.print(f"{name}: not measured, {why}", highlight=False, markup=False)
    if found.heard.refused:
        name, reason = next(iter(found.heard.refused.items()))
        line = f"{len(found.heard.refused)} requests gave no audio, such as {name!r}: {reason}"
        console.print(line, highlight=False, markup=False)
