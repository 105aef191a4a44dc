"""`unimoe eval`."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import soxr
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from unimoe.data.corpus import Corpus
from unimoe.evaluation.demo import KINDS, DemoFigures, Synthesize, judge
from unimoe_runtime.errors import OutputError
from unimoe_runtime.synthesis import Synthesizer


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--corpus", required=True, type=click.Path(path_type=Path), help="Folder of the rendered corpus.")
@click.option("--texts", default=24, show_default=True, type=click.IntRange(min=2), help="Texts a voice and kind.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the engine. [default: the engine's own]")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures here.")
def evaluate(bundle: Path, corpus: Path, texts: int, threads: int | None, json_path: Path | None) -> None:
    """Judge a BUNDLE on held-out texts by ear: word errors, voices, notes.

    Words are what pocketsphinx hears, who speaks is the nearest of the corpus's voices by spectrum and pitch, and
    notes are what a pitch tracker hears.
    """
    opened = Corpus.open(corpus)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed} texts"), TimeElapsedColumn())
    console = Console(stderr=True)
    with (
        Synthesizer.open(bundle, threads=threads) as synthesizer,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("judging", total=None)
        figures = judge(
            synthesize_with(synthesizer, opened.sample_rate_hz), opened, num_texts=texts,
            tick=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    if json_path is not None:
        record = {"bundle": str(bundle), "corpus": str(corpus), "texts": texts, **figures.to_dict()}
        try:
            json_path.parent.mkdir(parents=True, exist_ok=True)
            json_path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{json_path}: cannot be written ({error.strerror}); choose another place") from None
    print_figures(figures, Console())


def synthesize_with(synthesizer: Synthesizer, sample_rate_hz: int) -> Synthesize:
    """A synthesizer as the judge asks it, with the bundle's own sampling."""

    def synthesize(task: str, text: str, voice: str, seed: int) -> np.ndarray:
        result = synthesizer.synthesize(task=task, text=text, voice=voice, seed=seed)
        if result.sample_rate_hz == sample_rate_hz:
            return result.pcm_L
        resampled_L: np.ndarray = soxr.resample(result.pcm_L, result.sample_rate_hz, sample_rate_hz)
        return resampled_L

    return synthesize


def print_figures(figures: DemoFigures, console: Console) -> None:
    """Tables of words and voices, of notes, and one line on what was refused."""
    if figures.voices:
        table = Table("voice", "kind", title="word error rate", title_justify="left", box=None)
        _add_columns(table, "WER", "original", "rotated", "words", "taken for this voice", "of originals")
        for name, voice in figures.voices.items():
            recognised = (f"{voice.num_recognised} of {voice.num_clips}", str(voice.num_originals_recognised))
            for kind, score in voice.words.items():
                rates = score.rates()
                shares = (rates["wer"], rates["original_wer"], rates["rotated_wer"])
                table.add_row(name, kind, *map(_percent, shares), str(score.num_words), *recognised)
                name, recognised = "", ("", "")
            table.add_section()
        console.print(table)
    if figures.instruments:
        table = Table("instrument", title="notes heard as written", title_justify="left", box=None)
        _add_columns(table, "exact", "up to octave", "original", "rotated", "notes")
        for name, row in figures.instruments.items():
            notes = (row.made.exact_share, row.made.octave_share, row.original.exact_share, row.rotated.exact_share)
            table.add_row(name, *map(_percent, notes), str(row.made.total))
        console.print(table)
    console.print(_sentence(figures.summary()), highlight=False)
    if figures.refused:
        name, reason = next(iter(figures.refused.items()))
        console.print(f"{len(figures.refused)} requests gave no audio, such as {name!r}: {reason}", highlight=False)


def _add_columns(table: Table, *names: str) -> None:
    for name in names:
        table.add_column(name, justify="right")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _sentence(summary: dict[str, float]) -> str:
    rates = {kind: summary[f"{kind}_wer"] for kind in KINDS if f"{kind}_wer" in summary}
    parts = [f"word error rate of {kind} {_percent(rate)}" for kind, rate in rates.items()]
    if "voices_recognised" in summary:
        parts.append(f"voices right {_percent(summary['voices_recognised'])}")
    if "notes_exact" in summary:
        parts.append(
            f"notes right {_percent(summary['notes_exact'])}, up to octave {_percent(summary['notes_up_to_octave'])}"
        )
    return "all: " + ", ".join(parts)
