"""`unimoe eval`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import click

from unimoe.cli.bundle_argument import BUNDLE
from unimoe.cli.options import THREADS, Command, Whole, json_option, write_json
from unimoe.cli.progress import progress_bar
from unimoe.cli.tables import columns, print_next, print_prose, print_table
from unimoe.data.corpus import Corpus
from unimoe.evaluation.suite import Evaluation, evaluate_bundle
from unimoe.evaluation.tables import tables
from unimoe.stopping import starting_processes
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import MANIFEST, open_bundle
from unimoe_runtime.synthesis.synthesizer import Synthesizer
from unimoe_tools.output import require_writable, write_output


@click.command(cls=Command)
@click.argument("model", type=BUNDLE)
@click.option("--corpus", required=True, type=click.Path(path_type=Path), help="Folder of the rendered corpus.")
@click.option("--texts", default=24, show_default=True, type=Whole(2), help="Texts of each voice and kind.")
@click.option("--threads", type=THREADS, help="Threads of the engine. [default: the engine's own]")
@json_option
@click.option(
    "--html", "html_path", type=click.Path(path_type=Path, dir_okay=False), help="Write a page to read and listen to."
)
def evaluate(
    model: Path, corpus: Path, texts: int, threads: int | None, json_to: str | None, html_path: Path | None
) -> None:
    """Measure how a MODEL, a bundle or a checkpoint, sounds on held-out texts of a corpus.

    The figures are words, voices, notes, naturalness, loss by domain, and the experts that the routers pick. Beside
    each one stand the score of the original recordings and a baseline. A checkpoint is first exported into a
    temporary folder.
    """
    if html_path is not None:
        require_writable(html_path)
    opened = Corpus.open(corpus)
    with _as_bundle(model) as folder, progress_bar(kept="nothing is written") as progress:
        backend = open_backend("onnxruntime", open_bundle(folder), threads=threads)
        with Synthesizer(backend.bundle, backend) as synthesizer:
            found = evaluate_bundle(
                synthesizer, opened, name=model.name, corpus_name=str(corpus), num_texts=texts, tick=progress
            )
    if html_path is not None:
        from unimoe.evaluation.page import as_html

        write_output(html_path, as_html(found))
    record = {"model": str(model), "corpus": str(corpus), "texts": texts, **found.to_dict()}
    if not write_json(record, json_to):
        print_tables(found)
        if html_path is not None:
            click.echo(f"page: {html_path}")
        else:
            print_next("`--html FILE` writes a page with the clips, to read and listen to")


@contextmanager
def _as_bundle(model: Path) -> Iterator[Path]:
    """The bundle's folder. For a checkpoint it is a temporary folder that exists until the block ends."""
    if (model / MANIFEST).exists():
        yield model
        return
    from unimoe_export.exporter import export_bundle

    # A separate process: exporting compares graphs with all cores, and an engine's threads are set once a process.
    with (
        tempfile.TemporaryDirectory(prefix="unimoe-eval-") as folder,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
    ):
        with starting_processes():
            exported = pool.submit(export_bundle, model, Path(folder) / "bundle")
        exported.result()
        yield Path(folder) / "bundle"


def print_tables(found: Evaluation) -> None:
    """Every table with its note, then the refused requests and the missing measurements."""
    for one in tables(found):
        names = [one.columns[index] for index in one.words]
        print_table(columns(*one.columns, left=names), one.rows, title=one.title)
        if one.note:
            print_prose(one.note, dim=True)
    click.echo()
    for name, why in found.unmeasured.items():
        print_prose(f"{name}: not measured, {why}", indent="  ")
    if found.heard.refused:
        name, reason = next(iter(found.heard.refused.items()))
        click.echo(f"{len(found.heard.refused)} requests gave no audio, such as {name!r}: {reason}")
