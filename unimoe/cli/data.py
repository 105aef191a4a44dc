"""`unimoe data`: training material from its sources to codec tokens."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from unimoe_runtime.errors import ConfigError

CORPUS = click.Path(path_type=Path, file_okay=False, exists=True)
OUT = click.Path(path_type=Path, file_okay=False)
RECIPE = click.Path(path_type=Path, dir_okay=False)
WORKERS = click.option(
    "--workers", default=2, show_default=True, type=click.IntRange(min=1), help="Processes that work at a time."
)


@click.group()
def data() -> None:
    """Make, judge, filter and encode corpora of speech and music."""


def read_section(path: Path, name: str) -> dict[str, Any]:
    """A section of a recipe. Raises ConfigError where the file is missing, is no TOML, or has no such section."""
    try:
        section = tomllib.loads(path.read_text(encoding="utf-8"))[name]
    except KeyError:
        raise ConfigError(f"{path}: the section [{name}] is missing") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as a recipe ({error})") from None
    return {key: tuple(value) if isinstance(value, list) else value for key, value in section.items()}


@data.command()
def sources() -> None:
    """List where material comes from, its licence, and whether weights trained on it may be shipped."""
    from rich.console import Console
    from rich.table import Table

    from unimoe.data.sources import SOURCES

    table = Table("source", "what", "licence", "weights may be shipped", "install", box=None)
    for source in SOURCES.values():
        ship = f"{'yes' if source.may_ship else 'no'}: {source.reason}"
        table.add_row(source.name, source.what, source.licence, ship, source.install)
    Console().print(table, highlight=False)


@data.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("out", type=OUT)
@WORKERS
def render(recipe: Path, out: Path, workers: int) -> None:
    """Render what RECIPE's section [data] says into the corpus OUT. Goes on where it was stopped."""
    from unimoe.data.recipe import CorpusRecipe
    from unimoe.data.rendering import render_corpus

    section = read_section(recipe, "data")
    try:
        wanted = CorpusRecipe.from_dict(section)
    except ConfigError as error:
        raise ConfigError(f"{recipe}: section [data]: {error}") from None
    click.echo(render_corpus(out, wanted, num_workers=workers).summary(out))


@data.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("out", type=OUT)
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="Stop at so many hours of speech.")
@WORKERS
def speak(recipe: Path, out: Path, hours: float | None, workers: int) -> None:
    """Speak the texts of RECIPE's section [speech] into the folder OUT, clip by clip. Goes on where it was stopped."""
    from rich.progress import Progress

    from unimoe.data.speaking import CLIPS, read_lines, render_speech
    from unimoe.data.speech_texts import SpeechTextRecipe, draw_requests

    wanted = draw_requests(SpeechTextRecipe.from_dict(read_section(recipe, "speech")))
    with Progress(transient=True) as progress:
        task = progress.add_task("speaking", total=len(wanted))
        for count, _ in render_speech(out, wanted, num_workers=workers, hours=hours):
            progress.update(task, completed=count)
    lines = read_lines(out / CLIPS)
    spoken = sum(line.get("duration_s", 0.0) for line in lines) / 3600
    click.echo(f"{len(lines):,} clips, {spoken:.2f} hours in {out}")


@data.command()
@click.argument("folder", type=CORPUS)
@click.option(
    "--judge", type=click.Choice(["tiny.en", "base"]), default="tiny.en", show_default=True, help="Which Whisper hears."
)
@WORKERS
def hear(folder: Path, judge: Any, workers: int) -> None:
    """Let Whisper hear the clips of a spoken FOLDER, and mark those that the teacher got wrong."""
    from rich.progress import Progress

    from unimoe.data.speaking import CLIPS, read_lines
    from unimoe.evaluation.hearing import HEARD, hear_corpus, left_out_counts

    with Progress(transient=True) as progress:
        task = progress.add_task("hearing", total=len(read_lines(folder / CLIPS)))
        for count in hear_corpus(folder, size=judge, num_workers=workers):
            progress.update(task, completed=count)
    lines = read_lines(folder / HEARD)
    for reason, count in left_out_counts(lines).items():
        click.echo(f"{count:7,} left out: {reason}")
    words = sum(line["words"] for line in lines)
    errors = sum(line["word_errors"] for line in lines)
    click.echo(f"{len(lines):,} clips heard, {100 * errors / max(1, words):.1f} % of words wrong")


@data.command()
@click.argument("folder", type=CORPUS)
@click.argument("out", type=OUT)
@click.option("--rate", default=24000, show_default=True, type=click.IntRange(min=8000), help="Sample rate in Hz.")
@click.option("--unheard", is_flag=True, help="Take clips along that Whisper has not heard yet.")
def gather(folder: Path, out: Path, rate: int, unheard: bool) -> None:
    """Make the corpus OUT of the clips of a spoken FOLDER that Whisper let pass."""
    from unimoe.data.gathering import gather_clips

    click.echo(gather_clips(folder, out, sample_rate_hz=rate, only_heard=not unheard).summary(out))


@data.command()
@click.argument("out", type=OUT)
@click.option("--recipe", type=RECIPE, help="A recipe whose section [letter_to_sound] has sizes.")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(min=1))
def lexicon(out: Path, recipe: Path | None, threads: int) -> None:
    """Write the lexicon and train the letter-to-sound model of the front end into OUT; print errors on unseen words."""
    from unimoe.training.frontend_parts import make_lexicon, set_threads
    from unimoe.training.letter_to_sound import LetterToSoundRecipe

    set_threads(threads)
    wanted = LetterToSoundRecipe.from_dict(read_section(recipe, "letter_to_sound") if recipe else {})
    with _training_progress("letter to sound") as progress:
        errors = make_lexicon(out, wanted, progress)
    click.echo(
        f"of {errors.num_words:,} unseen words {100 * errors.words:.1f} % are wrong, {100 * errors.phonemes:.1f} % of "
        f"their phonemes; without stress {100 * errors.words_without_stress:.1f} and "
        f"{100 * errors.phonemes_without_stress:.1f} %"
    )


@data.command()
@click.argument("corpus", type=CORPUS)
@click.argument("out", type=OUT)
@click.option("--recipe", type=RECIPE, help="A recipe whose section [durations] has sizes.")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(min=1))
def durations(corpus: Path, out: Path, recipe: Path | None, threads: int) -> None:
    """Train the front end's duration predictor on a gathered CORPUS into OUT; print errors on its test clips."""
    from unimoe.data.corpus import Corpus
    from unimoe.training.durations import DurationRecipe
    from unimoe.training.frontend_parts import make_durations, set_threads

    set_threads(threads)
    wanted = DurationRecipe.from_dict(read_section(recipe, "durations") if recipe else {})
    with _training_progress("durations") as progress:
        found = make_durations(out, Corpus.open(corpus), wanted, progress)
    for name, errors in zip(("predictor", "means"), found, strict=True):
        click.echo(
            f"{name:10} {errors.phoneme_ms:5.1f} ms a phoneme, {errors.middle_ms:5.1f} ms where it lies, "
            f"{100 * errors.total:.1f} % of a clip's length ({errors.num_clips:,} clips)"
        )


@contextmanager
def _training_progress(name: str) -> Iterator[Callable[[int, int, float], None]]:
    """A bar with the loss beside it."""
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda step, total, loss: bar.update(
            task, completed=step, total=total, description=f"{name}, loss {loss:.3f}"
        )


@data.command("import")
@click.argument("folder", type=CORPUS)
@click.argument("out", type=OUT)
@click.option("--voice", default="own", show_default=True, help="Name of who speaks, where the list does not say.")
@click.option("--licence", default="", help="Licence of the recordings; it is kept with every clip.")
@click.option("--may-ship", is_flag=True, help="The licence allows to ship weights trained on them.")
@click.option("--rate", default=16000, show_default=True, type=click.IntRange(min=8000), help="Sample rate in Hz.")
@click.option("--align/--no-align", default=True, show_default=True, help="Find when each phoneme is spoken.")
@WORKERS
def import_(
    folder: Path, out: Path, voice: str, licence: str, may_ship: bool, rate: int, align: bool, workers: int
) -> None:
    """Make the corpus OUT of your own recordings: FOLDER has audio, and texts as .txt, metadata.csv or .jsonl."""
    from unimoe.data.folders import Terms, plan_import
    from unimoe.data.rendering import run_jobs

    terms = Terms(licence=licence, may_ship=may_ship)
    plan = plan_import(folder, voice=voice, terms=terms, sample_rate_hz=rate, align=align)
    corpus = run_jobs(out, plan, sample_rate_hz=rate, seed=0, num_workers=workers)
    unaligned = sum(not item.captioned for item in corpus)
    note = f"; {unaligned:,} without phonemes, for a codec alone" if unaligned else ""
    click.echo(corpus.summary(out) + note)


@data.command()
@click.argument("out", type=OUT)
@click.argument("corpora", type=CORPUS, nargs=-1, required=True)
def join(out: Path, corpora: tuple[Path, ...]) -> None:
    """Make one corpus OUT of several."""
    from unimoe.data.joining import join_corpora

    click.echo(join_corpora(corpora, out).summary(out))


@data.command("filter")
@click.argument("corpus", type=CORPUS)
@click.argument("out", type=OUT)
@click.option(
    "--recipe", type=click.Path(path_type=Path, dir_okay=False), help="A recipe whose section [filter] has limits."
)
@click.option("--balance", is_flag=True, help="As many hours of speech as of music in the training split.")
@click.option("--wer", is_flag=True, help="Measure word errors of speech as well (slow; needs pocketsphinx).")
@click.option("--dnsmos", is_flag=True, help="Measure DNSMOS as well (slow; needs speechmos).")
@WORKERS
def filter_(corpus: Path, out: Path, recipe: Path | None, balance: bool, wer: bool, dnsmos: bool, workers: int) -> None:
    """Measure every clip of CORPUS and keep in OUT what is good, once. Measures stay in CORPUS/metrics.jsonl."""
    from dataclasses import replace

    from unimoe.data.corpus import Corpus
    from unimoe.data.filtering import FilterRecipe, judge_clips, write_filtered
    from unimoe.data.metrics import Extras, measure_corpus

    wanted = FilterRecipe.from_section(read_section(recipe, "filter") if recipe else {})
    wanted = replace(wanted, balance=wanted.balance or balance)
    opened = Corpus.open(corpus)
    extras = Extras(wer=wer, dnsmos=dnsmos)
    metrics = measure_corpus(opened, corpus / "metrics.jsonl", extras, num_workers=workers)
    verdict = judge_clips(opened, metrics, wanted)
    for reason, count in verdict.counts().items():
        click.echo(f"{count:7,} left out: {reason}")
    click.echo(write_filtered(opened, corpus, out, metrics, verdict, wanted).summary(out))


@data.command()
@click.argument("corpus", type=CORPUS)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="The page; CORPUS/report.html if left out."
)
def report(corpus: Path, html: Path | None) -> None:
    """Write a page on what is in CORPUS: counts, hours, histograms, licences; and the same as JSON beside it."""
    from unimoe.data.corpus import Corpus
    from unimoe.data.reporting import write_report

    opened = Corpus.open(corpus)
    page = html or corpus / "report.html"
    facts = write_report(opened, corpus, page)
    click.echo(opened.summary(corpus))
    for name, row in facts["kinds"].items():
        click.echo(f"  {name:20} {row['hours']:7.2f} h {row['clips']:8,} clips")
    local = [name for name, source in facts["sources"].items() if source.get("may_ship") is False]
    if local:
        click.echo(f"weights trained on {', '.join(local)} may not be shipped")
    click.echo(f"page: {page}")


@data.command()
@click.argument("corpus", type=CORPUS)
@click.argument("codec", type=CORPUS)
@click.option("--cache", type=OUT, help="Folder of codec tokens; CORPUS/codes if left out.")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(min=1), help="CPU threads.")
def encode(corpus: Path, codec: Path, cache: Path | None, threads: int) -> None:
    """Turn CORPUS into tokens of CODEC, kept by the hashes of codec and clip. Goes on where it was stopped."""
    import torch

    from unimoe.data.codes import cached_codes
    from unimoe.data.corpus import Corpus

    torch.set_num_threads(threads)
    folder = cache or corpus / "codes"
    codes = cached_codes(Corpus.open(corpus), codec, folder)
    frames = sum(len(codes_TK) for codes_TK in codes)
    click.echo(f"{len(codes):,} clips, {frames:,} frames of {codes[0].shape[1]} codebooks in {folder}")
